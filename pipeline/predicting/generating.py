"""A small sample of a job's rows, generated to see how long answers are and how fast they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core.errors import InputInvalid, JobInvalid
from pipeline.core.ports import Clock, Engine
from pipeline.core.prediction import Measured
from pipeline.core.rows import Request
from pipeline.dataset.plan_file import Plan
from pipeline.engine_loading import check_engine, engine_loader
from pipeline.predicting.pacing import paced
from pipeline.predicting.rows import drawn
from pipeline.speculating import speculation_of

LEAST_ROWS = 8
_WINDOWS_BESIDE = 3
"""Rows drawn to keep the window full, so that hardly one comes twice: its prompt would be known."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Output tokens by row that the engine answered, and its pace."""

    lengths: Sequence[int]
    refused: int
    measured: Measured


def generated(
    here: JobAtHand,
    plan: Plan,
    rows: int,
    load: Callable[[], Engine] | None = None,
    clock: Clock | None = None,
    boot_seconds: float = 0.0,
) -> Generated:
    """`rows` of the dataset, answered by the job's own engine and thrown away, among others that
    keep its window as full as it will be. A worker takes `boot_seconds` before it loads. Raises
    what loading raises."""
    if rows < LEAST_ROWS:
        raise JobInvalid(f"{rows} rows tell nothing", where="--sample", hint=f">= {LEAST_ROWS}")
    check_engine(here.job)
    clock = clock or SystemClock()
    began = clock.now()
    engine = (load or _loader(here))()
    try:
        start_seconds = boot_seconds + clock.now() - began
        asked = drawn(here, plan, engine.encode, rows + _WINDOWS_BESIDE * engine.window)
        requests = [
            Request(f"plan-{number}", one.prompt_token_ids, one.sampling)
            for number, one in enumerate(asked)
        ]
        # A run of few rows never fills the window.
        window = min(engine.window, -(-plan.rows // here.job.fleet.workers))
        found = paced(engine, requests[:rows], requests[rows:], window, clock)
    finally:
        engine.close()
    lengths = [len(answer.token_ids) for answer in found.answers.values()]
    if not any(lengths):
        raise InputInvalid("no row of the sample was answered", where=here.job.input.uri)
    measured = Measured(found.tokens_per_second, start_seconds)
    return Generated(lengths, min(rows, len(requests)) - len(lengths), measured)


def _loader(here: JobAtHand) -> Callable[[], Engine]:
    used = speculation_of(here, here.job).used
    model = here.job.model.model_copy(update={"speculative": used})
    load = engine_loader(here.job.model_copy(update={"model": model}), here.options)
    # As a worker loads it first: on a CPU, a process of its own takes twice as long to start.
    return lambda: load(False)
