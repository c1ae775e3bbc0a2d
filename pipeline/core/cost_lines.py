"""What a run was charged with, line by line: the amounts of which every report is a sum.

A line is an attempt on a shard, or what a session cost beyond what shards were charged for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.core.bills import charges_of
from pipeline.core.manifest import charged_usd
from pipeline.core.money import Buckets, NodePrice, decimal_of, dollars, share_out, sum_of
from pipeline.core.outlived import Outlived
from pipeline.core.rows import TokenCounts
from pipeline.core.spans import Span, all_seconds, charges, together

OVERHEAD = ("boot", "load", "idle", "drain")


@dataclass(frozen=True, slots=True)
class RunBooks:
    """A run's manifest, and its shards'. Of a run in progress (not `complete`), the one that it
    would have if it ended with what is published. `lived` has the first and the last beat's time
    by worker, `outlived` what they tell of that a complete one does not have."""

    run: Mapping[str, Any]
    manifests: Sequence[Mapping[str, Any]]
    lived: Mapping[str, tuple[str, str]]
    complete: bool
    outlived: Sequence[Outlived] = ()

    def life_of(self, worker_id: str) -> tuple[str, str]:
        """When it began and ended; where its session is gone, when the run did."""
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
        spans = charges(_priced(row, worker))
        if not books.complete:
            spans = _not_wasted_yet(
                spans, charges(_priced(worker, worker)), charged[row["worker_id"]].buckets
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
                usd=_by_bucket(spans, decimal_of(row["cost"])),
                on_demand_usd=_on_demand(spans),
                tokens=TokenCounts(wasted=row["tokens"]),
            )
        )
    return lines


def _lines_of_shard(manifest: Mapping[str, Any]) -> Iterator[Line]:
    attempts = manifest["attempts"]
    for attempt, tokens in zip(attempts, _tokens(manifest["tokens"], attempts), strict=True):
        spans = charges(attempt)
        yield Line(
            worker_id=attempt["worker_id"],
            shard_id=manifest["shard_id"],
            zone=attempt["node"]["zone"],
            tags=manifest["tags"],
            started_at=attempt["started_at"],
            ended_at=attempt["ended_at"],
            buckets=all_seconds(spans),
            usd=_by_bucket(spans, charged_usd(spans)),
            on_demand_usd=_on_demand(spans),
            tokens=tokens,
        )


def _tokens(
    shard: Mapping[str, int], attempts: Sequence[Mapping[str, Any]]
) -> Iterator[TokenCounts]:
    """What each attempt has of a shard's tokens: of those put in, by the rows it finished; of
    those published, by what it decoded; of those wasted, by what it is known to have wasted.

    Where nobody is known to have done any of it, the last attempt has all, which published.
    """
    if not attempts:
        return
    own = [attempt["tokens"] for attempt in attempts]
    last = len(attempts) - 1

    def shared(of: str, *weightings: Sequence[int]) -> dict[int, int]:
        for weights in weightings:
            if any(weights):
                return share_out(shard[of], dict(enumerate(weights)))
        return {last: shard[of]}

    rows = [attempt["rows"] for attempt in attempts]
    decoded = [tokens["output"] for tokens in own]
    wasted = [tokens["wasted"] for tokens in own]
    given, cached = shared("input", rows), shared("cached_input", rows)
    output, lost = shared("output", decoded), shared("wasted", wasted, decoded)
    for number, tokens in enumerate(own):
        yield TokenCounts(
            input=given.get(number, 0),
            cached_input=cached.get(number, 0),
            output=output.get(number, 0),
            draft_proposed=tokens["draft_proposed"],
            draft_accepted=tokens["draft_accepted"],
            wasted=lost.get(number, 0),
            copied=tokens["copied"],
        )


def _by_bucket(spans: Sequence[Span], cost: Decimal | None) -> dict[str, Decimal] | None:
    """`cost` by bucket: price times seconds. What rounding leaves goes to the longest overhead."""
    if cost is None:
        return None
    found = dict.fromkeys(Buckets().items(), Decimal(0))
    for price, buckets in spans:
        for name, micros in buckets.items().items():
            found[name] += dollars(micros, price.usd_per_hour) or Decimal(0)
    seconds = all_seconds(spans).items()
    found[max(OVERHEAD, key=lambda name: seconds[name])] += cost - sum(found.values())
    return found


def _on_demand(spans: Sequence[Span]) -> Decimal | None:
    return sum_of(dollars(buckets.total, price.on_demand_usd_per_hour) for price, buckets in spans)


def _priced(row: Mapping[str, Any], worker: Mapping[str, Any]) -> Mapping[str, Any]:
    """The books of earlier versions have a price in a worker's row alone, and none on demand."""
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
