"""Runs whose costs are reported: random ones, and small ones made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from pipeline.core.checkpoint import Attempt
from pipeline.core.cost_lines import RunBooks
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.run_manifest import run_manifest
from pipeline.core.session import Session, State
from tests.unit.books import PROVENANCE, balanced_books, manifest_of, shard_of
from tests.unit.strategies import known_prices

PRICE = NodePrice(Decimal("3.6"), "a book", Decimal("7.2"))
"""A thousandth of a dollar a second, and two on demand."""
UNPRICED = NodePrice(None, "unknown")
SECOND = 1_000_000
DAY = "2026-11-20"

_YEAR, _NEXT = datetime(2026, 1, 1), datetime(2027, 1, 1)
_zones = st.sampled_from(["us-east-1a", "us-east-1b", "unknown"])
_tags = st.dictionaries(st.sampled_from(["Team", "Project"]), st.sampled_from("ab"))


@st.composite
def run_books(draw: st.DrawFn, prices: st.SearchStrategy[NodePrice] | None = None) -> RunBooks:
    """Of runs whose attempts and sessions have any times, zones and tags."""
    books = draw(balanced_books(known_prices() if prices is None else prices))
    run = books.close()
    for manifest in books.manifests:
        manifest["tags"] = draw(_tags)
        for attempt in manifest["attempts"]:
            attempt["node"] = attempt["node"] | {"zone": draw(_zones)}
            attempt["started_at"], attempt["ended_at"] = draw(_span())
            attempt["end"] = draw(st.sampled_from(["published", "drained", "lost"]))
            attempt["rows"] = draw(st.integers(0, 9))
            attempt["tokens"] = attempt["tokens"] | {
                "output": draw(st.integers(0, 99)),
                "wasted": draw(st.integers(0, 99)),
            }
    for worker in run["workers"]:
        worker["node"] = worker["node"] | {"zone": draw(_zones)}
    lived = {worker["worker_id"]: draw(_span()) for worker in run["workers"]}
    return RunBooks(run, books.manifests, lived, draw(st.booleans()))


@st.composite
def _span(draw: st.DrawFn) -> tuple[str, str]:
    """Of hours and days; now and then a clock that was set back, or what is no time."""
    start = draw(st.datetimes(min_value=_YEAR, max_value=_NEXT))
    seconds = draw(st.integers(-3600, 4 * 86_400))
    end = start + timedelta(seconds=seconds, microseconds=draw(st.integers(0, 999_999)))
    broken = draw(st.integers(0, 9)) == 0
    return start.isoformat() + "Z", "once" if broken else end.isoformat() + "Z"


def at(time: str) -> str:
    return f"{DAY}T{time}Z"


def worker(
    name: str,
    began: str,
    ended: str,
    lived: Buckets,
    state: State = "ended",
    price: NodePrice = PRICE,
    zone: str = "a",
) -> Session:
    node = Node(name, "g6.xlarge", zone, "spot")
    return Session(name, 9, state, at(began), at(ended), node, price, lived)


def attempt(
    session: Session, epoch: int, end: Any, spent: Buckets, output: int = 0, **changes: Any
) -> Attempt:
    return replace(
        Attempt(
            session.worker_id,
            epoch,
            session.node,
            session.price,
            session.started_at,
            session.beat_at,
            end,
            spent,
            rows=output,
            tokens=TokenCounts(output=output),
        ),
        **changes,
    )


def shard(shard_id: int, attempts: Sequence[Attempt], output: int = 1000) -> dict[str, Any]:
    """With one row of so many tokens, and twice as many put in."""
    row = FinishedRow(0, "x", "stop", prompt_tokens=2 * output, completion_tokens=output)
    return manifest_of(shard_of(shard_id, 1), [row], attempts)


def books(
    sessions: Sequence[Session], manifests: Sequence[dict[str, Any]], complete: bool = True
) -> RunBooks:
    planned = [shard_of(manifest["shard_id"], 1) for manifest in manifests]
    bills = [session.bill for session in sessions]
    if not complete:
        bills = [bill.so_far({shard.id for shard in planned}) for bill in bills]
    start, end = at("00:00:00"), at("12:00:00")
    run = run_manifest(PROVENANCE, planned, manifests, bills, start, end)
    lived = {session.worker_id: (session.started_at, session.beat_at) for session in sessions}
    return RunBooks(run, manifests, lived, complete)
