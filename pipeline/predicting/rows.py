"""A job's rows as they would be asked: all of them, or some that are drawn by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TypeAlias

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import RowRejected
from pipeline.core.rows import Prompt, Sampling
from pipeline.core.sampled import Estimate, SampledShard, estimate
from pipeline.core.shards import Shard
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.source import ParquetSource
from pipeline.predicting.selected import Selected, dice_of, selected_rows

ALL_UP_TO = 20_000
"""So many rows are counted one by one; of more, a sample is."""
SAMPLED_ROWS = 4_096
SAMPLED_BYTES = 2**30
"""A sample's shards, uncompressed and with all of their columns: as many as that, in bounds."""
LEAST_SHARDS, MOST_SHARDS = 8, 256
_AT_ONCE = 8
Encode: TypeAlias = Callable[[Prompt], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found out about a dataset's rows: which are to be answered, their prompts' tokens,
    and the most they may be answered with. `rows_read` prompts were counted."""

    selected: Selected
    prompt_tokens: Estimate
    most_output_tokens: Estimate
    rows_read: int
    every_row: bool

    @property
    def rows(self) -> Estimate:
        return self.selected.rows


@dataclass(frozen=True, slots=True)
class Asked:
    """A row's prompt in tokens, and how it is to be answered."""

    prompt_token_ids: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Of a shard in which `rows` are selected, those that were drawn; None for one that is no
    prompt."""

    rows: int
    asked: Sequence[tuple[Prompt, Sampling] | None]


def count(here: JobAtHand, plan: Plan, encode: Encode) -> Counted:
    """From all rows, or from `SAMPLED_ROWS` of some shards; the same for the same dataset. `plan`
    is the dataset's in its own order. A row that is no prompt has no tokens."""
    selected = selected_rows(here, plan)
    holding = [shard for shard in plan.shards if selected.in_shard.get(shard.id)]
    every = (
        selected.every_shard
        and selected.rows.total <= ALL_UP_TO
        and sum(shard.bytes for shard in holding) <= SAMPLED_BYTES
    )
    shards = holding if every else _some(holding, dice_of(plan), MOST_SHARDS)
    tokens: list[SampledShard] = []
    most: list[SampledShard] = []
    rows = None if every else SAMPLED_ROWS
    for drawn in _drawn(here, plan, shards, selected, rows):
        found = [_counted(one, encode) for one in drawn.asked]
        tokens.append(SampledShard(drawn.rows, drawn.rows, [prompt for prompt, _ in found]))
        most.append(SampledShard(drawn.rows, drawn.rows, [longest for _, longest in found]))

    def whole(sampled: Sequence[SampledShard]) -> Estimate:
        # Of shards that nobody looked at, as many are taken to hold a row as of the others.
        holds = max(len(sampled), round(len(holding) * selected.shards / len(selected.in_shard)))
        return estimate(sampled, holds, round(selected.rows.total)).times(selected.rows)

    return Counted(
        selected,
        prompt_tokens=whole(tokens),
        most_output_tokens=whole(most),
        rows_read=sum(len(shard.figures) for shard in tokens),
        every_row=every,
    )


def drawn(here: JobAtHand, plan: Plan, encode: Encode, rows: int) -> list[Asked]:
    """At most so many rows that have a prompt, by chance; the same for the same dataset."""
    selected = selected_rows(here, plan)
    dice = dice_of(plan)
    holding = [shard for shard in plan.shards if selected.in_shard.get(shard.id)]
    shards = _some(holding, dice, MOST_SHARDS)
    found = [
        asked
        for shard in _drawn(here, plan, shards, selected, rows)
        for one in shard.asked
        if (asked := _encoded(one, encode)) is not None
    ]
    dice.shuffle(found)
    return found[:rows]


def _some(shards: Sequence[Shard], dice: random.Random, most: int) -> list[Shard]:
    """At most so many, drawn by chance, that are not too large in all."""
    shuffled = dice.sample(shards, min(most, len(shards)))
    sizes = accumulate(shard.bytes for shard in shuffled)
    fit = sum(1 for _ in takewhile(lambda size: size <= SAMPLED_BYTES, sizes))
    return sorted(shuffled[: max(LEAST_SHARDS, fit)], key=lambda shard: shard.id)


def _drawn(
    here: JobAtHand, plan: Plan, shards: Sequence[Shard], selected: Selected, rows: int | None
) -> Iterator[_Drawn]:
    """About so many rows of these shards, of each by its size and two at least; all if None."""
    prompts_alone = here.job.input.model_copy(update={"columns": ()})
    job = here.job.model_copy(update={"input": prompts_alone})
    source = ParquetSource(job, plan.schema, here.options)
    whole = sum(selected.in_shard[shard.id] for shard in shards)
    dice = dice_of(plan)
    seeds = [dice.random() for _ in shards]

    def read(shard: Shard, seed: float) -> _Drawn:
        given = source.open(shard)
        share = given.rows if rows is None else max(2, -(-rows * given.rows // whole))
        numbers = random.Random(seed).sample(range(given.rows), min(share, given.rows))  # noqa: S311
        asked: list[tuple[Prompt, Sampling] | None] = []
        for row in sorted(numbers):
            try:
                asked.append((given.prompt(row), given.sampling(row)))
            except RowRejected:
                asked.append(None)
        return _Drawn(given.rows, asked)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(read, shards, seeds)


def _counted(one: tuple[Prompt, Sampling] | None, encode: Encode) -> tuple[int, int]:
    """A row's prompt tokens, and the most it may be answered with."""
    asked = _encoded(one, encode)
    return (0, 0) if asked is None else (len(asked.prompt_token_ids), asked.sampling.max_tokens)


def _encoded(one: tuple[Prompt, Sampling] | None, encode: Encode) -> Asked | None:
    if one is None:
        return None
    prompt, sampling = one
    try:
        return Asked(encode(prompt), sampling)
    except RowRejected:
        return None
