"""How many of a dataset's rows a job's condition selects, and which shards they are in."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

from pipeline.at_hand import JobAtHand
from pipeline.core.sampled import Estimate, SampledShard, estimate, most_hit
from pipeline.core.shard_list import ShardList
from pipeline.core.shards import Shard
from pipeline.dataset.matching import Matching
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.planning import input_fingerprint

COUNTED_BYTES = 4 * 2**30
COUNTED_SHARDS = 20_000
"""So much of a condition's columns, uncompressed, and so many shards are read; of a dataset that
has more, shards drawn by chance."""
LEAST_SHARDS = 64
FEW_SHARDS = 10
"""Where fewer than so many of the shards drawn hold a selected row, nobody knows how many the
others do: only how many at most."""


@dataclass(frozen=True, slots=True)
class Selected:
    """`in_shard` are the rows selected of each shard that was looked at, by id; there are `shards`
    in all. `rows` is their number in the dataset."""

    in_shard: Mapping[int, int]
    shards: int
    rows: Estimate

    @property
    def every_shard(self) -> bool:
        return len(self.in_shard) == self.shards

    @property
    def hit(self) -> int:
        """Shards that hold a selected row, of those looked at."""
        return sum(rows > 0 for rows in self.in_shard.values())

    @property
    def known(self) -> bool:
        """Whether `rows.total` is to be relied on, and not only that there are at most `high`."""
        return self.every_shard or self.hit >= FEW_SHARDS


def selected_rows(here: JobAtHand, plan: Plan) -> Selected:
    """Counted, shard by shard, up to a bound; the same for the same dataset. Raises what reading
    the rows raises, and `JobInvalid` for a condition that does not work on them."""
    matching = Matching(here.job, plan.schema, here.options)
    looked_at = _looked_at(here, plan, matching)
    in_shard = matching.rows(looked_at)
    shards = len(plan.shards)
    if len(looked_at) == shards:
        rows = float(sum(in_shard.values()))
        return Selected(in_shard, shards, Estimate(rows, rows, rows))
    ones = [(one.rows, in_shard[one.id]) for one in looked_at]
    sampled = [SampledShard(planned, rows, (1.0,) * min(1, rows)) for planned, rows in ones]
    found = Selected(in_shard, shards, estimate(sampled, shards, plan.rows))
    if found.known:
        return found
    seen = sum(in_shard.values())
    unseen = plan.rows - sum(shard.rows for shard in looked_at)
    most = seen + most_hit(found.hit, len(looked_at)) * unseen
    return Selected(in_shard, shards, Estimate(found.rows.total, float(seen), most))


def dice_of(plan: Plan) -> random.Random:
    """Falls alike for the same dataset, and otherwise for another."""
    return random.Random(input_fingerprint(plan))  # noqa: S311 - a sample, not a secret


def _looked_at(here: JobAtHand, plan: Plan, matching: Matching) -> Sequence[Shard]:
    if here.job.input.where is None:
        return plan.shards
    share = matching.share_read(plan.shards[0])
    if (
        ShardList.of(plan.shards).bytes * share <= COUNTED_BYTES
        and len(plan.shards) <= COUNTED_SHARDS
    ):
        return plan.shards
    numbers = dice_of(plan).sample(range(len(plan.shards)), min(COUNTED_SHARDS, len(plan.shards)))
    sizes = accumulate(plan.shards[number].bytes * share for number in numbers)
    most = sum(1 for _ in takewhile(lambda size: size <= COUNTED_BYTES, sizes))
    return [plan.shards[number] for number in sorted(numbers[: max(LEAST_SHARDS, most)])]
