"""A small sample of a job's rows, generated to see how long answers are and how fast they come."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core.errors import JobInvalid
from pipeline.core.ports import Clock, Engine, Speculating
from pipeline.core.prediction import Measured
from pipeline.core.rows import Request
from pipeline.core.sampled import SampledShard
from pipeline.dataset.plan_file import Plan
from pipeline.engine_loading import check_engine, engine_loader
from pipeline.predicting.pacing import paced
from pipeline.predicting.rows import Asked, Counted, Drawn, count, shared
from pipeline.predicting.selected import dice_of, selected_rows
from pipeline.preparing import finished_row
from pipeline.speculating import speculation_of

LEAST_ROWS = 8
_WINDOWS_BESIDE = 3
"""Rows drawn to keep the window full, so that hardly one comes twice: its prompt would be known."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Output tokens of a sample's rows by shard, 0 of those that came to no answer, and the
    engine's pace, which was `gain` times what it is without drafts, where it can do without;
    `counted` is what was found out of all rows on the way."""

    counted: Counted
    sampled: Sequence[SampledShard]
    measured: Measured
    gain: float | None = None

    @property
    def rows(self) -> int:
        return sum(len(shard.figures) for shard in self.sampled)


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
    what loading the engine and reading rows raises."""
    if rows < LEAST_ROWS:
        raise JobInvalid(f"{rows} rows tell nothing", where="--sample", hint=f">= {LEAST_ROWS}")
    check_engine(here.job)
    selected = selected_rows(here, plan)
    clock = clock or SystemClock()
    began = clock.now()
    engine = (load or _loader(here))()
    try:
        start_seconds = boot_seconds + clock.now() - began
        keep = rows + _WINDOWS_BESIDE * engine.window
        counted = count(here, plan, selected, engine.encode, keep)
        sample, beside = _divided(counted.kept, rows, dice_of(plan))
        asked = {
            (shard, row): Request(f"plan-{shard}-{row}", one.prompt_token_ids, one.sampling)
            for shard, drawn in enumerate(sample)
            for row, one in enumerate(drawn.asked)
            if one is not None
        }
        others = [Request("", one.prompt_token_ids, one.sampling) for one in beside]
        # A run of few rows never fills the window.
        a_worker = -(-round(selected.rows.total) // here.job.fleet.workers)
        window = min(engine.window, max(1, a_worker))
        found = paced(engine, list(asked.values()), others, window, clock)
        gain = None
        if isinstance(engine, Speculating) and engine.draft_depth:
            engine.speculate(0)
            engine.forget_prefixes()
            plain = paced(engine, list(asked.values()), others, window, clock)
            if plain.tokens_per_second:
                gain = found.tokens_per_second / plain.tokens_per_second
    finally:
        engine.close()

    def tokens(shard: int, row: int) -> int:
        request = asked.get((shard, row))
        answer = None if request is None else found.answers.get(request.id)
        if request is None or answer is None:
            return 0
        return finished_row(row, request, answer).completion_tokens

    sampled = [
        SampledShard(
            drawn.rows, drawn.rows, [tokens(shard, row) for row in range(len(drawn.asked))]
        )
        for shard, drawn in enumerate(sample)
    ]
    return Generated(counted, sampled, Measured(found.tokens_per_second, start_seconds), gain)


def _divided(
    kept: Sequence[Drawn], rows: int, dice: random.Random
) -> tuple[list[Drawn], list[Asked]]:
    """About so many rows of as many shards as can have two each, and what can be asked of the
    rest."""
    numbers = set(dice.sample(range(len(kept)), min(len(kept), rows // 2)))
    dealt = shared(rows, {number: kept[number].rows for number in numbers})
    sample = [Drawn(kept[n].rows, kept[n].asked[: dealt[n]]) for n in sorted(numbers)]
    left = (one for n, drawn in enumerate(kept) for one in drawn.asked[dealt.get(n, 0) :])
    return sample, [one for one in left if one is not None]


def _loader(here: JobAtHand) -> Callable[[], Engine]:
    used = speculation_of(here, here.job).used
    model = here.job.model.model_copy(update={"speculative": used})
    load = engine_loader(here.job.model_copy(update={"model": model}), here.options)
    # As a worker loads it first: on a CPU, a process of its own takes twice as long to start.
    return lambda: load(False)
