"""Closed books as exports read them: with times, machines and tokens, at one price or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from pipeline.core.manifest import attempt_cost
from pipeline.core.money import (
    DOLLAR_GRAIN,
    Buckets,
    Node,
    NodePrice,
    decimal_of,
    decimal_text,
    dollars,
    sum_of,
)
from pipeline.core.rows import TokenCounts
from pipeline.exports.cost_rows import CostRow, cost_rows
from tests.unit.books import balanced_books
from tests.unit.strategies import known_prices, token_counts

STARTED, ENDED = "2026-11-20T22:00:00.000Z", "2026-11-21T03:30:00.125Z"
TAGS = {"Project": "search", "Team": "data", "Environment": "prod", "ModelID": "m", "Über": 'a"b'}
HOUR = 3_600_000_000
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
        return cost_rows("nightly", self.run, self.manifests)


@st.composite
def closed_books(draw: st.DrawFn, prices: st.SearchStrategy[NodePrice] | None = None) -> Closed:
    """As spotmill closes them, where every session had one price."""
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


@st.composite
def repriced_books(draw: st.DrawFn) -> Closed:
    """Some of their rows at several prices, and rests off by what rounding leaves."""
    closed = draw(closed_books())
    manifests = [
        manifest | {"attempts": [_repriced(draw, attempt) for attempt in manifest["attempts"]]}
        for manifest in closed.manifests
    ]
    rests = []
    for left in closed.run["unallocated"]:
        rest = _repriced(draw, left)
        spans = rest.get("prices", [rest])
        whole = sum_of(
            dollars(Buckets.from_seconds(one["seconds"]).total, decimal_of(one["price_per_hour"]))
            for one in spans
        )
        assert whole is not None
        rests.append(rest | {"cost": f"{whole + draw(st.integers(-9, 9)) * DOLLAR_GRAIN:f}"})
    costs = [attempt_cost(a) for manifest in manifests for a in manifest["attempts"]]
    total = sum_of([*costs, *(Decimal(rest["cost"]) for rest in rests)])
    run = closed.run | {
        "unallocated": rests,
        "cost": closed.run["cost"] | {"total": decimal_text(total)},
    }
    return Closed(run, manifests)


def _repriced(draw: st.DrawFn, row: Json) -> Json:
    """The row, with its seconds split between its own price and others."""
    left = Buckets.from_seconds(row["seconds"])
    spans = []
    for price in draw(st.lists(known_prices(), max_size=2)):
        tenths = draw(st.integers(0, 10))
        taken = Buckets(**{name: n * tenths // 10 for name, n in left.items().items()})
        left -= taken
        spans.append(price.to_json() | {"seconds": taken.seconds()})
    if not spans:
        return row
    own = {name: row[name] for name in ("price_per_hour", "on_demand_price_per_hour")}
    own |= {"price_source": row["price_source"], "seconds": left.seconds()}
    return row | {"prices": [*spans, own]}


def tokens_of(rows: Sequence[CostRow]) -> TokenCounts:
    return sum((row.tokens for row in rows), TokenCounts())


def cost_row(**changes: Any) -> CostRow:
    """An hour of each bucket, at a dollar an hour."""
    facts: dict[str, Any] = {
        "run_id": "night",
        "job": "nightly",
        "worker_id": "w1",
        "node": Node("i-1", "g6.xlarge", "us-east-1a", "spot"),
        "started_at": datetime(2026, 12, 31, 22, tzinfo=UTC),
        "ended_at": datetime(2027, 1, 1, 4, tzinfo=UTC),
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
