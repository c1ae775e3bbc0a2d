"""A job's rows as they would be asked: all of them, or some that are drawn by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import RowRejected
from pipeline.core.ports import ShardInput
from pipeline.core.rows import Prompt, Sampling
from pipeline.core.sampled import Estimate, SampledShard, estimate
from pipeline.core.shards import Shard
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.source import ParquetSource

ALL_UP_TO = 20_000
"""So many rows are counted one by one; of more, a sample is."""
SAMPLED_ROWS = 4_096
SAMPLED_SHARDS = 8
Encode = Callable[[Prompt], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A row's prompt in tokens, and how it is to be answered."""

    prompt_token_ids: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found out about a dataset's rows: those that are to be answered, their prompts'
    tokens, and the most they may be answered with. `rows_read` prompts were counted."""

    rows: Estimate
    prompt_tokens: Estimate
    most_output_tokens: Estimate
    rows_read: int
    rows_planned: int
    every_row: bool


@dataclass(slots=True)
class _Tally:
    tokens: list[int] = field(default_factory=list)
    most: list[int] = field(default_factory=list)


def count(here: JobAtHand, plan: Plan, encode: Encode) -> Counted:
    """From all rows, or from `SAMPLED_ROWS` of `SAMPLED_SHARDS` shards; the same for the same
    dataset. `plan` is the dataset's in its own order. A row that is no prompt has no tokens."""
    every = plan.rows <= ALL_UP_TO
    shards = list(plan.shards) if every else _drawn(plan, SAMPLED_SHARDS)
    source = ParquetSource(here.job, plan.schema, here.options)
    looked_at = sum(shard.rows for shard in shards)
    dice = _dice()
    chosen: list[tuple[Shard, int, _Tally]] = []
    for shard in shards:
        given = source.open(shard)
        share = given.rows if every else -(-SAMPLED_ROWS * shard.rows // looked_at)
        tally = _Tally()
        for row in sorted(dice.sample(range(given.rows), min(share, given.rows))):
            asked = _asked(given, row, encode)
            tally.tokens.append(0 if asked is None else len(asked.prompt_token_ids))
            tally.most.append(0 if asked is None else asked.sampling.max_tokens)
        chosen.append((shard, given.rows, tally))

    def of(figures: Callable[[_Tally], list[int]]) -> Estimate:
        sampled = [SampledShard(shard.rows, rows, figures(one)) for shard, rows, one in chosen]
        return estimate(sampled, len(plan.shards), plan.rows)

    return Counted(
        rows=of(lambda tally: [1] * len(tally.tokens)),
        prompt_tokens=of(lambda tally: tally.tokens),
        most_output_tokens=of(lambda tally: tally.most),
        rows_read=sum(len(tally.tokens) for _, _, tally in chosen),
        rows_planned=plan.rows,
        every_row=every,
    )


def drawn(here: JobAtHand, plan: Plan, encode: Encode, rows: int) -> list[Asked]:
    """At most so many rows that have a prompt, from a few shards; the same for the same dataset."""
    shards = _drawn(plan, SAMPLED_SHARDS)
    source = ParquetSource(here.job, plan.schema, here.options)
    dice, looked_at = _dice(), sum(shard.rows for shard in shards)
    found: list[Asked] = []
    for shard in shards:
        given = source.open(shard)
        share = min(given.rows, -(-rows * shard.rows // looked_at))
        numbers = dice.sample(range(given.rows), share)
        found += _those_with_prompts(given, numbers, encode)
    dice.shuffle(found)
    return found[:rows]


def _those_with_prompts(given: ShardInput, rows: list[int], encode: Encode) -> Iterator[Asked]:
    for row in rows:
        if (asked := _asked(given, row, encode)) is not None:
            yield asked


def _asked(given: ShardInput, row: int, encode: Encode) -> Asked | None:
    try:
        return Asked(encode(given.prompt(row)), given.sampling(row))
    except RowRejected:
        return None


def _drawn(plan: Plan, most: int) -> list[Shard]:
    numbers = _dice().sample(range(len(plan.shards)), min(most, len(plan.shards)))
    return [plan.shards[number] for number in sorted(numbers)]


def _dice() -> random.Random:
    return random.Random(0)  # noqa: S311 - a sample, not a secret
