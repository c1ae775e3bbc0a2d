"""Random runs whose books are right: sessions, and shards that were charged for their time."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from pipeline.core.bills import SessionBill
from pipeline.core.checkpoint import Attempt
from pipeline.core.manifest import Provenance, charged_usd, shard_manifest
from pipeline.core.money import Buckets, Node, NodePrice, decimal_text, sum_of
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.run_manifest import run_manifest
from pipeline.core.shards import Shard
from pipeline.core.spans import Span, charges
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
    worker: str,
    epoch: int,
    price: NodePrice,
    spent: Buckets,
    tokens: TokenCounts | None = None,
    earlier: Sequence[Span] = (),
    lived: Sequence[Span] = (),
) -> Attempt:
    """`spent` at `price`, beside what was spent at `earlier` ones."""
    whole = sum((span.buckets for span in earlier), spent)
    counts = tokens or TokenCounts()
    node = Node(worker)
    return Attempt(
        *(worker, epoch, node, price, "s", "e", "lost", whole, 1, counts),
        earlier=tuple(earlier),
        lived=tuple(lived),
    )


def manifest_of(
    shard: Shard, rows: Sequence[FinishedRow], attempts: Sequence[Attempt]
) -> dict[str, Any]:
    return shard_manifest(PROVENANCE, shard, f"out/part-{shard.id}", rows, attempts)


@st.composite
def balanced_books(draw: st.DrawFn, prices: st.SearchStrategy[NodePrice] | None = None) -> Books:
    """Workers that lived at least as long as shards are charged for, at each of their prices."""
    priced = known_prices() if prices is None else prices
    in_turn = st.lists(priced, min_size=1, max_size=3, unique=True)
    book = draw(st.dictionaries(st.sampled_from("abcd"), in_turn, min_size=1))
    spent = {worker: dict.fromkeys(in_turn, Buckets()) for worker, in_turn in book.items()}
    some = st.builds(Buckets, useful=_micros, wasted=_micros, idle=_micros)
    planned: list[Shard] = []
    manifests: list[dict[str, Any]] = []
    for shard_id in range(draw(st.integers(1, 3))):
        rows = [draw(finished_rows(row)) for row in range(draw(st.integers(1, 3)))]
        workers = draw(st.lists(st.sampled_from(sorted(book)), min_size=1, max_size=3))
        attempts = []
        for epoch, worker in enumerate(workers, start=1):
            first = draw(st.integers(0, len(book[worker]) - 1))
            shares = [Span(price, draw(some)) for price in book[worker][first:]]
            for price, share in shares:
                spent[worker][price] += share
            *earlier, (price, share) = shares
            lived = [Span(*span) for span in spent[worker].items()]
            attempts.append(attempt_of(worker, epoch, price, share, earlier=earlier, lived=lived))
        planned.append(shard_of(shard_id, len(rows)))
        manifests.append(manifest_of(planned[-1], rows, attempts))
    beyond = st.builds(Buckets, _micros, _micros, _micros, _micros, _micros, _micros)
    bills = [
        SessionBill(
            worker,
            Node(worker),
            tuple(Span(price, charged + draw(beyond)) for price, charged in by_price.items()),
            draw(st.sampled_from(["ended", "failed", "work"])),
        )
        for worker, by_price in spent.items()
    ]
    return Books(tuple(planned), tuple(manifests), tuple(bills))


_micros = st.integers(0, 10**10)


def charged_again(books: Books, shard: int, nth: int) -> Books:
    """The books, with an attempt charged for a second more, and its shard's cost to match: of all
    that shards know, nothing contradicts it."""
    manifest = copy.deepcopy(books.manifests[shard])
    attempt = manifest["attempts"][nth]
    attempt["seconds"]["useful"] += 1.0
    if "prices" in attempt:
        attempt["prices"][-1]["seconds"]["useful"] += 1.0
    costs = [charged_usd(charges(one)) for one in manifest["attempts"]]
    manifest["cost"]["total"] = decimal_text(sum_of(costs))
    manifests = (*books.manifests[:shard], manifest, *books.manifests[shard + 1 :])
    return replace(books, manifests=manifests)


def idle_but_for(bill: SessionBill, charged: Mapping[NodePrice, Buckets]) -> SessionBill:
    """A session that worked for as long as shards are charged for, and loaded for hours."""
    spans = (
        Span(price, charged.get(price, Buckets()).plus("load", 10**10)) for price, _ in bill.spans
    )
    return replace(bill, spans=tuple(spans))


def without_time(bill: SessionBill, charged: Sequence[Span]) -> SessionBill:
    """The bill, at each price a microsecond shorter than what a shard is charged for."""
    owed = {price: replace(spent, useful=spent.useful - 1) for price, spent in charged}
    spans = (Span(price, owed.get(price, spent)) for price, spent in bill.spans)
    return replace(bill, spans=tuple(spans))
