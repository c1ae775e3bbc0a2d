"""A job's rows as they would be asked: all of them, or some that are drawn by chance."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TypeAlias

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import RowRejected
from pipeline.core.money import share_out
from pipeline.core.rows import Prompt, Sampling
from pipeline.core.sampled import Estimate, SampledShard, estimate
from pipeline.core.shards import Shard
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.source import ParquetSource
from pipeline.engine_loading import context_tokens
from pipeline.predicting.selected import Selected, dice_of

ALL_UP_TO = 20_000
"""So many rows are counted one by one; of more, a sample is."""
SAMPLED_ROWS = 4_096
SAMPLED_BYTES = 2**30
"""A sample's shards, uncompressed and with all of their columns: as many as that, in bounds."""
LEAST_SHARDS, MOST_SHARDS = 8, 256
_AT_ONCE = 8
Encode: TypeAlias = Callable[[Prompt], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A row's prompt in tokens, and how it is to be answered."""

    prompt_token_ids: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of a shard in which `rows` are selected, some that were drawn by chance; None for a row that
    nothing is asked of: it is no prompt, or too long a one."""

    rows: int
    asked: Sequence[Asked | None]


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found out about a dataset's rows: which are to be answered, their prompts' tokens,
    and the most they may be answered with. `rows_read` prompts were counted, of `holding` shards
    that hold a row, as far as is known; some of them were `kept`."""

    selected: Selected
    holding: int
    prompt_tokens: Estimate
    most_output_tokens: Estimate
    rows_read: int
    every_row: bool
    kept: Sequence[Drawn] = ()


def count(
    here: JobAtHand, plan: Plan, selected: Selected, encode: Encode, keep: int = 0
) -> Counted:
    """From all rows, or from `SAMPLED_ROWS` of some shards, each read once; the same for the same
    dataset. `plan` is the dataset's in its own order, of which these rows are `selected`; `keep` of
    them are kept. A row of which nothing
    is asked has no tokens."""
    holding = [shard for shard in plan.shards if selected.in_shard.get(shard.id)]
    every = (
        selected.every_shard
        and selected.rows.total <= ALL_UP_TO
        and sum(shard.bytes for shard in holding) <= SAMPLED_BYTES
    )
    dice = dice_of(plan)
    shards = holding if every else _some(holding, dice)
    sizes = {shard.id: selected.in_shard[shard.id] for shard in shards}
    wanted = sizes if every else shared(max(SAMPLED_ROWS, keep), sizes)
    to_keep = shared(keep, sizes)
    tokens: list[SampledShard] = []
    most: list[SampledShard] = []
    kept: list[Drawn] = []
    limit = context_tokens(here.job)
    for shard_id, prompts in _read(here, plan, shards, wanted, dice):
        rows = sizes[shard_id]
        lengths, longest = [], []
        some: list[Asked | None] = []
        for one in prompts:
            asked = _asked(one, encode, limit)
            lengths.append(0 if asked is None else len(asked.prompt_token_ids))
            longest.append(0 if asked is None else asked.sampling.max_tokens)
            # No more than are to be kept: prompts in tokens take ten times their text's memory.
            if len(some) < to_keep[shard_id]:
                some.append(asked)
        tokens.append(SampledShard(rows, rows, lengths))
        most.append(SampledShard(rows, rows, longest))
        kept.append(Drawn(rows, some))
    # Of shards that nobody looked at, as many are taken to hold a row as of the others.
    share = len(holding) / len(selected.in_shard)
    held = max(len(shards), round(share * selected.shards))

    def whole(sampled: Sequence[SampledShard]) -> Estimate:
        return estimate(sampled, held, round(selected.rows.total)).times(selected.rows)

    return Counted(
        selected,
        held,
        prompt_tokens=whole(tokens),
        most_output_tokens=whole(most),
        rows_read=sum(len(shard.figures) for shard in tokens),
        every_row=every,
        kept=kept,
    )


def shared(rows: int, sizes: Mapping[int, int]) -> dict[int, int]:
    """So many rows, dealt to shards by their size; two of each at least, for one has no spread."""
    dealt = share_out(min(rows, sum(sizes.values())), sizes) if rows else {}
    return {one: min(size, max(2, dealt[one])) if rows else 0 for one, size in sizes.items()}


def _some(shards: Sequence[Shard], dice: random.Random) -> list[Shard]:
    """Drawn by chance, as many as are not too large in all."""
    shuffled = dice.sample(shards, min(MOST_SHARDS, len(shards)))
    sizes = accumulate(shard.bytes for shard in shuffled)
    fit = sum(1 for _ in takewhile(lambda size: size <= SAMPLED_BYTES, sizes))
    return sorted(shuffled[: max(LEAST_SHARDS, fit)], key=lambda shard: shard.id)


_Prompted: TypeAlias = tuple[Prompt, Sampling] | None


def _read(
    here: JobAtHand,
    plan: Plan,
    shards: Sequence[Shard],
    wanted: Mapping[int, int],
    dice: random.Random,
) -> Iterator[tuple[int, list[_Prompted]]]:
    """By shard, so many of its rows as are wanted, in any order; None for one that is no prompt."""
    prompts_alone = here.job.input.model_copy(update={"columns": ()})
    job = here.job.model_copy(update={"input": prompts_alone})
    source = ParquetSource(job, plan.schema, here.options)

    def read(shard: Shard, seed: float) -> tuple[int, list[_Prompted]]:
        given = source.open(shard)
        numbers = random.Random(seed).sample(range(given.rows), wanted[shard.id])  # noqa: S311
        found: list[_Prompted] = []
        for row in numbers:
            try:
                found.append((given.prompt(row), given.sampling(row)))
            except RowRejected:
                found.append(None)
        return shard.id, found

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(read, shards, [dice.random() for _ in shards])


def _asked(one: _Prompted, encode: Encode, limit: int | None) -> Asked | None:
    if one is None:
        return None
    prompt, sampling = one
    try:
        tokens = encode(prompt)
    except RowRejected:
        return None
    return None if limit is not None and len(tokens) >= limit else Asked(tokens, sampling)
