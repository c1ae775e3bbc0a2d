"""Random runs whose books are right: sessions, and shards that were charged for their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from pipeline.core.checkpoint import Attempt
from pipeline.core.manifest import Provenance, shard_manifest
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.run_manifest import SessionBill, run_manifest
from pipeline.core.shards import Shard
from tests.unit.strategies import finished_rows, known_prices

PROVENANCE = Provenance("night", "sha256:1", {"id": "m", "engine": "scripted"}, {"Team": "data"})


def shard_of(shard_id: int, rows: int) -> Shard:
    return Shard(shard_id, f"f{shard_id}.parquet", "etag", 100, (0,), 0, rows, 100)


@dataclass(frozen=True, slots=True)
class Books:
    """What `finish` reads from a run's objects."""

    planned: tuple[Shard, ...]
    manifests: tuple[dict[str, Any], ...]
    bills: tuple[SessionBill, ...]

    def close(self) -> dict[str, Any]:
        return run_manifest(PROVENANCE, self.planned, self.manifests, self.bills, "start", "end")


def attempt_of(
    worker: str, epoch: int, price: NodePrice, spent: Buckets, tokens: TokenCounts | None = None
) -> Attempt:
    return Attempt(
        worker, epoch, Node(worker), price, "s", "e", "lost", spent, 1, tokens or TokenCounts()
    )


def manifest_of(
    shard: Shard, rows: Sequence[FinishedRow], attempts: Sequence[Attempt]
) -> dict[str, Any]:
    return shard_manifest(PROVENANCE, shard, f"out/part-{shard.id}", rows, attempts)


@st.composite
def balanced_books(draw: st.DrawFn, prices: st.SearchStrategy[NodePrice] | None = None) -> Books:
    """Workers that lived at least as long as shards are charged for."""
    priced = known_prices() if prices is None else prices
    book = draw(st.dictionaries(st.sampled_from("abcd"), priced, min_size=1))
    spent: dict[str, Buckets] = dict.fromkeys(book, Buckets())
    some = st.builds(Buckets, useful=_micros, wasted=_micros, idle=_micros)
    planned: list[Shard] = []
    manifests: list[dict[str, Any]] = []
    for shard_id in range(draw(st.integers(1, 3))):
        rows = [draw(finished_rows(row)) for row in range(draw(st.integers(1, 3)))]
        workers = draw(st.lists(st.sampled_from(sorted(book)), min_size=1, max_size=3))
        attempts = []
        for epoch, worker in enumerate(workers, start=1):
            share = draw(some)
            spent[worker] += share
            attempts.append(attempt_of(worker, epoch, book[worker], share))
        planned.append(shard_of(shard_id, len(rows)))
        manifests.append(manifest_of(planned[-1], rows, attempts))
    beyond = st.builds(Buckets, _micros, _micros, _micros, _micros, _micros, _micros)
    bills = [
        SessionBill(
            worker,
            Node(worker),
            book[worker],
            charged + draw(beyond),
            draw(st.sampled_from(["ended", "failed", "work"])),
        )
        for worker, charged in spent.items()
    ]
    return Books(tuple(planned), tuple(manifests), tuple(bills))


_micros = st.integers(0, 10**10)


def without_time(bill: SessionBill, charged: Mapping[str, float]) -> SessionBill:
    """The bill, a microsecond shorter than what shards are charged for."""
    owed = Buckets.from_seconds(charged)
    return replace(bill, buckets=replace(owed, useful=owed.useful - 1))
