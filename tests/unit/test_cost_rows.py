"""Charges, flat: nothing is lost between the books and the rows, nor made up."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.bills import SessionBill
from pipeline.core.checkpoint import Attempt
from pipeline.core.cost_kinds import OVERHEAD, shared
from pipeline.core.cost_lines import RunBooks, lines_of
from pipeline.core.errors import BooksUnbalanced
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice, sum_of
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.run_manifest import run_manifest
from pipeline.core.spans import Span, charges
from pipeline.exports.cost_rows import cost_rows
from pipeline.exports.costs import encode_costs
from pipeline.exports.focus import encode_focus
from tests.unit.books import PROVENANCE, manifest_of, shard_of
from tests.unit.exported import Closed, closed_books, tokens_of
from tests.unit.strategies import any_prices, bounded, prices_per_hour


@bounded
@given(closed_books())
def test_rows_add_up_to_the_run_to_the_last_digit(closed: Closed) -> None:
    assert sum_of(row.total for row in closed.rows()) == Decimal(closed.run["cost"]["total"])


@bounded
@given(closed_books())
def test_tables_and_reports_tell_the_same_to_the_last_digit(closed: Closed) -> None:
    """What rounding leaves falls to the same kind of each in both."""
    rows = closed.rows()
    lines = lines_of(RunBooks(closed.run, closed.manifests, {}, complete=True))
    for shard_id in {row.shard_id for row in rows}:
        here = [row for row in rows if row.shard_id == shard_id]
        told = [line.usd or {} for line in lines if line.shard_id == shard_id]
        assert sum(row.useful or 0 for row in here) == sum(usd["useful"] for usd in told)
        assert sum(row.wasted or 0 for row in here) == sum(usd["wasted"] for usd in told)
        overhead = sum(usd[bucket] for usd in told for bucket in OVERHEAD)
        assert sum(row.overhead or 0 for row in here) == overhead


@bounded
@given(closed_books())
def test_the_rows_of_a_shard_add_up_to_its_own_manifest(closed: Closed) -> None:
    rows = closed.rows()
    for manifest in closed.manifests:
        own = [row for row in rows if row.shard_id == manifest["shard_id"]]
        cost = manifest["cost"]
        for kind in ("useful", "wasted", "overhead", "total", "on_demand_equivalent"):
            assert sum_of(getattr(row, kind) for row in own) == Decimal(cost[kind])


@bounded
@given(closed_books())
def test_no_second_no_token_and_no_row_is_lost_or_doubled(closed: Closed) -> None:
    rows = closed.rows()
    attempts = [a for manifest in closed.manifests for a in manifest["attempts"]]
    documents = [*attempts, *closed.run["unallocated"]]
    told = [buckets for document in documents for _, buckets in charges(document)]
    assert sum((row.buckets for row in rows), Buckets()) == sum(told, Buckets())
    names = [each.name for each in fields(TokenCounts)]
    published = [
        TokenCounts(**{name: manifest["tokens"][name] for name in names})
        for manifest in closed.manifests
    ]
    drafts = [TokenCounts(**attempt["tokens"]) for attempt in attempts]
    lost = sum(left["tokens"] for left in closed.run["unallocated"])
    assert tokens_of(rows) == replace(
        sum(published, TokenCounts(wasted=lost)),
        draft_proposed=sum(each.draft_proposed for each in drafts),
        draft_accepted=sum(each.draft_accepted for each in drafts),
        copied=sum(each.copied for each in drafts),
    )
    assert sum(row.rows for row in rows) == sum(m["output"]["rows"] for m in closed.manifests)
    assert min(min(asdict(row.tokens).values()) for row in rows) >= 0


@bounded
@given(closed_books(any_prices()))
def test_an_unknown_price_is_unknown_in_its_rows_and_in_no_others(closed: Closed) -> None:
    rows = closed.rows()
    for row in rows:
        amounts = (row.useful, row.wasted, row.overhead, row.total)
        times = (row.buckets.useful, row.buckets.wasted, row.buckets.overhead, row.buckets.total)
        unpriced, price = [micros > 0 for micros in times], row.price
        if price.usd_per_hour is not None:
            unpriced = [False] * 4
        assert [amount is None for amount in amounts] == unpriced
        unlisted = price.on_demand_usd_per_hour is None and row.buckets.total > 0
        assert (row.on_demand_equivalent is None) == unlisted
    assert any(row.total is None for row in rows) == (closed.run["cost"]["total"] is None)


@bounded
@given(closed_books())
def test_only_rests_have_no_shard(closed: Closed) -> None:
    for row in closed.rows():
        assert (row.shard_id is None) == (row.epoch is None) == (row.end is None)
        assert row.started_at == datetime(2026, 11, 20, 22, tzinfo=UTC)


@bounded
@given(closed_books(), st.data())
def test_books_that_say_something_else_are_refused(closed: Closed, data: st.DataObject) -> None:
    total = Decimal(closed.run["cost"]["total"]) + Decimal("0.000000000001")
    altered = closed.run | {"cost": closed.run["cost"] | {"total": f"{total:f}"}}
    with pytest.raises(BooksUnbalanced, match="add up to"):
        replace(closed, run=altered).rows()


@bounded
@given(
    st.lists(st.tuples(st.integers(0, 10**10), prices_per_hour), min_size=1),
    st.decimals(0, 1000, places=12),
)
def test_what_is_shared_adds_up(parts: list[tuple[int, Decimal]], total: Decimal) -> None:
    assert sum_of(shared(total, parts)) == total


def test_of_what_has_an_unknown_price_the_rest_is_known() -> None:
    hour = 3_600_000_000
    assert shared(None, [(hour, Decimal(1)), (hour, None)]) == [Decimal(1), None]
    assert shared(None, [(hour, Decimal(1)), (0, None)]) == [Decimal(1), Decimal(0)]
    assert shared(Decimal(1), [(hour, Decimal(1)), (0, None)]) == [Decimal(1), Decimal(0)]


def one_attempt(**changes: Any) -> Closed:
    price = {"price_per_hour": "1", "on_demand_price_per_hour": None, "price_source": "a book"}
    attempt = {
        "worker_id": "w",
        "epoch": 1,
        "portion": {"number": 3, "take": 2},
        "node": {},
        "seconds": Buckets(useful=3_600_000_000).seconds(),
        **price,
        "rows": 1,
        "tokens": asdict(TokenCounts()),
        "end": "published",
        "started_at": "2026-11-20T22:00:00Z",
        "ended_at": "2026-11-20T23:00:00Z",
        **changes,
    }
    run = {"workers": [], "unallocated": [], "run_id": "night", "cost": {"total": "1"}}
    manifest = {
        "run_id": "night",
        "shard_id": 0,
        "tags": {},
        "attempts": [attempt],
        "tokens": attempt["tokens"],
        "output": {"rows": attempt["rows"]},
    }
    return Closed(run, [manifest])


def test_a_portion_of_a_shard_is_told_apart() -> None:
    [row] = one_attempt().rows()
    assert (row.shard_id, row.portion, row.take) == (0, 3, 2)


def test_clocks_that_differ_end_nothing_before_it_began() -> None:
    [row] = one_attempt(ended_at="2026-11-20T21:59:59Z").rows()
    assert row.started_at == row.ended_at


def test_times_are_told_in_utc_wherever_they_were_written() -> None:
    [row] = one_attempt(started_at="2026-11-20T23:30:00+02:00").rows()
    assert row.started_at == datetime(2026, 11, 20, 21, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="without its zone"):
        one_attempt(started_at="2026-11-20T23:30:00").rows()


def test_an_attempt_at_two_prices_is_two_rows_that_share_its_tokens_by_decoding_time() -> None:
    hour = 3_600_000_000
    one, two = (
        NodePrice(Decimal(usd), "a market").to_json() | {"seconds": spent.seconds()}
        for usd, spent in ((1, Buckets(useful=hour)), (2, Buckets(useful=3 * hour, idle=hour)))
    )
    decoded = asdict(TokenCounts(output=401, draft_accepted=4))
    closed = one_attempt(prices=[one, two], rows=8, tokens=decoded)
    closed.run["cost"]["total"] = "9"
    first, second = closed.rows()
    assert (first.total, second.total) == (Decimal(1), Decimal(8))
    assert (second.useful, second.overhead) == (Decimal(6), Decimal(2))
    assert (first.rows, second.rows) == (2, 6)
    assert (first.tokens.output, second.tokens.output) == (100, 301)
    assert (first.tokens.draft_accepted, second.tokens.draft_accepted) == (1, 3)


@bounded
@given(closed_books())
def test_a_rest_was_in_the_life_of_its_session(closed: Closed) -> None:
    lived = {w["worker_id"]: Buckets.from_seconds(w["seconds"]) for w in closed.run["workers"]}
    for worker in closed.run["workers"]:
        worker["began_at"] = "2026-11-20T23:00:00Z"
    for row in closed.rows():
        if row.shard_id is None:
            assert row.started_at == datetime(2026, 11, 20, 23, tzinfo=UTC)
            micros = (row.ended_at - row.started_at) // timedelta(microseconds=1)
            assert micros == lived[row.worker_id].total


@bounded
@given(closed_books())
def test_a_rest_of_which_nobody_knows_when_it_began_has_the_hours_of_the_run(
    closed: Closed,
) -> None:
    for row in closed.rows():
        if row.shard_id is None:
            assert row.ended_at == datetime(2026, 11, 21, 3, 30, 0, 125_000, tzinfo=UTC)


def test_a_shards_tokens_and_rows_are_those_it_published_not_those_that_were_decoded() -> None:
    """Two decoded a row each and the same one: of the copy that lost, nothing was published."""
    closed = one_attempt()
    [manifest] = closed.manifests
    [attempt] = manifest["attempts"]
    decoded = asdict(TokenCounts(input=7, output=50))
    manifest["attempts"] = [attempt | {"tokens": decoded}, attempt | {"tokens": decoded}]
    manifest["tokens"] = asdict(TokenCounts(input=7, output=50, wasted=50))
    closed.run["cost"]["total"] = "2"
    rows = closed.rows()
    assert tokens_of(rows) == TokenCounts(input=7, output=50, wasted=50)
    assert sum(row.rows for row in rows) == 1


def test_an_attempt_of_a_worker_that_left_no_session_costs_nothing_and_keeps_no_table() -> None:
    """Nobody knows its price, and it has no time at it: it claimed the shard, and saved nothing."""
    at = "2026-11-20T22:00:00Z"
    known, spent = NodePrice(Decimal(1), "a book"), Buckets(useful=3_600_000_000)
    attempts = [
        Attempt("ghost", 1, Node(), UNKNOWN_PRICE, at, at, "lost"),
        Attempt("w", 2, Node("w"), known, at, at, "published", spent, 1),
    ]
    manifest = manifest_of(shard_of(0, 1), [FinishedRow(0, "x", "stop")], attempts)
    bill = SessionBill("w", Node("w"), (Span(known, spent),), "ended")
    run = run_manifest(PROVENANCE, [shard_of(0, 1)], [manifest], [bill], at, at)
    assert Decimal(run["cost"]["allocated"]) == Decimal(run["cost"]["total"]) == 1
    rows = list(cost_rows("nightly", run, [manifest]))
    assert [row.total for row in rows] == [0, 1, 0]
    assert pl.read_parquet(encode_costs(rows))["cost"].sum() == 1
    assert pl.read_parquet(encode_focus(rows))["EffectiveCost"].sum() == 1
