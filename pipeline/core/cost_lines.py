"""What a run was charged with, line by line: the amounts of which every report is a sum.

A line is an attempt on a shard, or what a session cost beyond what shards were charged for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from pipeline.core.attempt_shares import shares_of_attempts
from pipeline.core.bills import charges_of
from pipeline.core.cost_kinds import by_bucket, kinds_of_attempt, kinds_of_rest
from pipeline.core.money import (
    Buckets,
    NodePrice,
    decimal_of,
    dollars,
    micros_of,
    sum_of,
)
from pipeline.core.outlived import Outlived
from pipeline.core.rows import TokenCounts
from pipeline.core.spans import Span, all_seconds, charges, together
from pipeline.core.times import earlier_by

Life: TypeAlias = tuple[str, str]
"""When a session began and ended, as ISO timestamps."""


def life_in_books(worker: Mapping[str, Any]) -> Life | None:
    """By its row in a run's manifest: from its beginning for as long as its bill says, and what it
    lived before it told a price, which no bill has. None in books of earlier versions."""
    began_at = worker.get("began_at")
    if began_at is None:
        return None
    untold = worker.get("uncertain", {}).get("untold_seconds", 0.0)
    lived = Buckets.from_seconds(worker["seconds"]).total + micros_of(untold)
    return began_at, earlier_by(began_at, -lived)


@dataclass(frozen=True, slots=True)
class RunBooks:
    """A run's manifest, and its shards'. Of a run in progress (not `complete`), the one that it
    would have if it ended with what is published. `lived` has the first and the last beat's time
    by worker, of a complete one as its books say, and `outlived` what beats tell of beyond that."""

    run: Mapping[str, Any]
    manifests: Sequence[Mapping[str, Any]]
    lived: Mapping[str, Life]
    complete: bool
    outlived: Sequence[Outlived] = ()

    def life_of(self, worker_id: str) -> Life:
        """Where its session is gone, the run's."""
        return self.lived.get(worker_id, (self.run["started_at"], self.run["finished_at"]))


@dataclass(frozen=True, slots=True)
class Line:
    """`usd` by bucket; None when a price is unknown. No `shard_id`: charged to no shard.

    A shard's tokens are shared among its attempts, so that lines add up to the run's.
    """

    worker_id: str
    shard_id: int | None
    zone: str
    tags: Mapping[str, str]
    started_at: str
    ended_at: str
    buckets: Buckets
    usd: Mapping[str, Decimal] | None
    on_demand_usd: Decimal | None
    tokens: TokenCounts = field(default_factory=TokenCounts)

    @property
    def total(self) -> Decimal | None:
        return None if self.usd is None else sum(self.usd.values(), Decimal(0))


def lines_of(books: RunBooks) -> list[Line]:
    """All of a run's lines. Their sum is the run's total, to the last digit."""
    charged = charges_of([] if books.complete else books.manifests)
    workers = {row["worker_id"]: row for row in books.run["workers"]}
    lines = [line for manifest in books.manifests for line in _lines_of_shard(manifest)]
    for row in books.run["unallocated"]:
        worker = workers[row["worker_id"]]
        spans = charges(priced(row, worker))
        if not books.complete:
            spans = _not_wasted_yet(
                spans, charges(priced(worker, worker)), charged[row["worker_id"]].buckets
            )
        started_at, ended_at = books.life_of(row["worker_id"])
        lines.append(
            Line(
                worker_id=row["worker_id"],
                shard_id=None,
                zone=worker["node"]["zone"],
                tags=books.run["tags"],
                started_at=started_at,
                ended_at=ended_at,
                buckets=all_seconds(spans),
                usd=by_bucket(spans, kinds_of_rest(spans, decimal_of(row["cost"]))),
                on_demand_usd=_on_demand(spans),
                tokens=TokenCounts(wasted=row["tokens"]),
            )
        )
    return lines


def _lines_of_shard(manifest: Mapping[str, Any]) -> Iterator[Line]:
    for attempt, share in zip(manifest["attempts"], shares_of_attempts(manifest), strict=True):
        spans = charges(attempt)
        yield Line(
            worker_id=attempt["worker_id"],
            shard_id=manifest["shard_id"],
            zone=attempt["node"]["zone"],
            tags=manifest["tags"],
            started_at=attempt["started_at"],
            ended_at=attempt["ended_at"],
            buckets=all_seconds(spans),
            usd=by_bucket(spans, kinds_of_attempt(spans)),
            on_demand_usd=_on_demand(spans),
            tokens=share.tokens,
        )


def _on_demand(spans: Sequence[Span]) -> Decimal | None:
    return sum_of(dollars(buckets.total, price.on_demand_usd_per_hour) for price, buckets in spans)


def priced(row: Mapping[str, Any], worker: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's `row` of that `worker`, which may be itself, with a price: the books of earlier
    versions have one in a worker's row alone, and none on demand."""
    known = {key: worker.get(key) for key in NodePrice(None, "").to_json()}
    return {**known, **row}


def _not_wasted_yet(
    unallocated: Sequence[Span], lived: Sequence[Span], charged: Mapping[NodePrice, Buckets]
) -> list[Span]:
    """What a session did for shards that are not published is waste once the run is over, and
    until then useful as far as the session says so."""
    alive = together(lived)
    found = []
    for price, buckets in together(unallocated).items():
        useful = alive.get(price, Buckets()).useful
        uncharged = useful - charged.get(price, Buckets()).useful
        still = min(buckets.wasted, max(0, uncharged))
        found.append(Span(price, buckets + Buckets(useful=still, wasted=-still)))
    return found
