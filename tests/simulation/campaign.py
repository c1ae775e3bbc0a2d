"""Many nights, one after another, on several cores."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.invariants import broken
from tests.simulation.night import Night, night
from tests.simulation.sim_store import Trace
from tests.simulation.universe import Universe

_BATCH = 50


def failings(tonight: Night, trace: Trace | None = None) -> list[str]:
    """What is wrong with a night: broken invariants, and what escaped from it."""
    universe = Universe(tonight, trace)
    try:
        universe.run()
        return list(broken(universe))
    except Exception:
        return [traceback.format_exc()]
    finally:
        universe.abandon()


def replay(seed: int) -> str:
    """The command that shows this night again, bit for bit."""
    return f"python -m tests.simulation --seed {seed} --trace"


def failures(seeds: range, jobs: int) -> Iterator[tuple[int, list[str]]]:
    """The seeds whose nights fail, and how; in order, as soon as they are known."""
    batches = [seeds[first : first + _BATCH] for first in range(0, len(seeds), _BATCH)]
    if jobs == 1:
        for batch in batches:
            yield from _failures_of(batch)
        return
    # Fresh processes: a fork of a process with threads may deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=be_quiet) as pool:
        for found in pool.map(_failures_of, batches):
            yield from found


def be_quiet() -> None:
    """Nobody reads the log of a hundred thousand nights, and writing it takes longer than they."""
    logging.disable(logging.CRITICAL)


def _failures_of(seeds: range) -> list[tuple[int, list[str]]]:
    # A night leaves circles behind; they are picked up once a batch instead of all the time.
    gc.disable()
    try:
        judged = ((seed, failings(night(seed))) for seed in seeds)
        return [(seed, found) for seed, found in judged if found]
    finally:
        gc.enable()
        gc.collect()


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
