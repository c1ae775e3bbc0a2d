"""Closed books as exports read them: with times, machines and tokens, at one price or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from pipeline.core.money import (
    Buckets,
    Node,
    NodePrice,
)
from pipeline.core.rows import TokenCounts
from pipeline.exports.cost_rows import CostRow, cost_rows
from tests.unit.books import balanced_books
from tests.unit.strategies import token_counts

STARTED, ENDED = "2026-11-20T22:00:00.000Z", "2026-11-21T03:30:00.125Z"
TAGS = {"Project": "search", "Team": "data", "Environment": "prod", "ModelID": "m", "Über": 'a"b'}
HOUR = 3_600_000_000
AZURE_VM = (
    "/subscriptions/8d10da13-8125-4ba9-a717-bf7490507b3d/resourcegroups/night/providers/"
    "microsoft.compute/virtualmachines/worker_3"
)
Json = dict[str, Any]

nodes = st.builds(
    Node,
    st.sampled_from(["i-1", "i-2", "unknown"]),
    st.sampled_from(["g6.xlarge", "unknown"]),
    st.sampled_from(["us-east-1a", "us-central1-a", "eastus2-1", "cellar", "unknown"]),
    st.sampled_from(["spot", "on-demand", "unknown"]),
)


@dataclass(frozen=True, slots=True)
class Closed:
    """What exports are made from."""

    run: Json
    manifests: Sequence[Json]

    def rows(self) -> list[CostRow]:
        return list(cost_rows("nightly", self.run, self.manifests))


@st.composite
def closed_books(draw: st.DrawFn, prices: st.SearchStrategy[NodePrice] | None = None) -> Closed:
    """As spotmill closes them, sessions and attempts at one price or several."""
    books = draw(balanced_books(prices))
    machines = {bill.worker_id: asdict(draw(nodes)) for bill in books.bills}
    manifests = [
        manifest
        | {
            "tags": TAGS,
            "attempts": [
                attempt
                | {
                    "started_at": STARTED,
                    "ended_at": ENDED,
                    "node": machines[attempt["worker_id"]],
                    "tokens": asdict(draw(token_counts)),
                }
                for attempt in manifest["attempts"]
            ],
        }
        for manifest in books.manifests
    ]
    run = books.close()
    run |= {"started_at": STARTED, "finished_at": ENDED, "tags": TAGS}
    for worker in run["workers"]:
        worker["node"] = machines[worker["worker_id"]]
    for left in run["unallocated"]:
        left["tokens"] = draw(st.integers(0, 1000))
    return Closed(run, manifests)


def tokens_of(rows: Sequence[CostRow]) -> TokenCounts:
    return sum((row.tokens for row in rows), TokenCounts())


def cost_row(**changes: Any) -> CostRow:
    """An hour of each bucket, at a dollar an hour."""
    facts: dict[str, Any] = {
        "run_id": "night",
        "job": "nightly",
        "worker_id": "w1",
        "node": Node("i-1", "g6.xlarge", "us-east-1a", "spot"),
        "started_at": datetime(2026, 12, 30, 22, tzinfo=UTC),
        "ended_at": datetime(2026, 12, 31, 4, tzinfo=UTC),
        "price": NodePrice(Decimal(1), "a book", Decimal(3)),
        "buckets": Buckets(HOUR, HOUR, HOUR, HOUR, HOUR, HOUR),
        "useful": Decimal(1),
        "wasted": Decimal(1),
        "overhead": Decimal(4),
        "tokens": TokenCounts(input=7, cached_input=2, output=50, wasted=9),
        "tags": TAGS,
        "shard_id": 12,
        "epoch": 1,
        "rows": 4,
        "end": "published",
    }
    return CostRow(**facts | changes)
