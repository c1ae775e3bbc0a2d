"""A small sample of a job's rows, generated to see how long answers are and how fast they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core.errors import InputInvalid, JobInvalid
from pipeline.core.ports import Clock, Engine
from pipeline.core.prediction import Measured
from pipeline.core.rows import Completion, Request
from pipeline.dataset.plan_file import Plan
from pipeline.engine_loading import check_engine, engine_loader
from pipeline.near_ties import generate
from pipeline.predicting.rows import drawn
from pipeline.speculating import speculation_of

LEAST_ROWS = 8
_WARMING_SHARE = 4


@dataclass(frozen=True, slots=True)
class Generated:
    """Output tokens by row that the engine answered, and its pace once it was warm."""

    lengths: Sequence[int]
    refused: int
    measured: Measured


def generated(
    here: JobAtHand,
    plan: Plan,
    rows: int,
    load: Callable[[], Engine] | None = None,
    clock: Clock | None = None,
) -> Generated:
    """`rows` of the dataset, answered by the job's own engine and thrown away. A quarter of them
    warms it up, the others are timed; fewer rows than its window, and the end, when few are left,
    make it look slower than it is. Raises what loading raises."""
    if rows < LEAST_ROWS:
        raise JobInvalid(f"{rows} rows tell nothing", where="--sample", hint=f">= {LEAST_ROWS}")
    check_engine(here.job)
    clock = clock or SystemClock()
    began = clock.now()
    engine = (load or _loader(here))()
    try:
        load_seconds = clock.now() - began
        asked = drawn(here, plan, engine.encode, rows)
        requests = [
            Request(f"plan-{number}", one.prompt_token_ids, one.sampling)
            for number, one in enumerate(asked)
        ]
        warming = len(requests) // _WARMING_SHARE
        first = generate(engine, requests[:warming])
        began = clock.now()
        second = generate(engine, requests[warming:])
        seconds = clock.now() - began
    finally:
        engine.close()
    timed = [len(one.token_ids) for one in second.values() if isinstance(one, Completion)]
    lengths = [len(one.token_ids) for one in first.values() if isinstance(one, Completion)] + timed
    if not any(timed):
        raise InputInvalid("no row of the sample was answered", where=here.job.input.uri)
    measured = Measured(sum(timed) / max(seconds, 1e-6), load_seconds)
    return Generated(lengths, len(requests) - len(lengths), measured)


def _loader(here: JobAtHand) -> Callable[[], Engine]:
    used = speculation_of(here, here.job).used
    model = here.job.model.model_copy(update={"speculative": used})
    load = engine_loader(here.job.model_copy(update={"model": model}), here.options)
    # As a worker loads it first: on a CPU, a process of its own takes twice as long to start.
    return lambda: load(False)
