"""Conservation: shards and unallocated rows sum to the workers' bills, to the last digit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.bills import SessionBill, charges_of
from pipeline.core.checkpoint import Attempt
from pipeline.core.errors import BooksUnbalanced
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice, decimal_text
from pipeline.core.rows import FinishedRow
from pipeline.core.run_manifest import run_manifest
from pipeline.core.spans import Span, charges, together
from tests.unit.books import (
    PROVENANCE,
    Books,
    attempt_of,
    balanced_books,
    charged_again,
    idle_but_for,
    manifest_of,
    shard_of,
    without_time,
)
from tests.unit.strategies import any_prices, bounded


@bounded
@given(balanced_books())
def test_allocated_and_unallocated_are_the_whole_bill(books: Books) -> None:
    run = books.close()
    cost = run["cost"]
    assert Decimal(cost["allocated"]) + Decimal(cost["unallocated"]) == Decimal(cost["total"])
    assert Decimal(cost["total"]) == sum(bill.usd or Decimal(0) for bill in books.bills)
    assert Decimal(cost["unallocated"]) == sum(Decimal(row["cost"]) for row in run["unallocated"])


@bounded
@given(balanced_books())
def test_seconds_are_conserved_too(books: Books) -> None:
    run = books.close()
    for bill, left in zip(books.bills, run["unallocated"], strict=True):
        charged = sum(
            Buckets.from_seconds(attempt["seconds"]).total
            for manifest in books.manifests
            for attempt in manifest["attempts"]
            if attempt["worker_id"] == bill.worker_id
        )
        rest = Buckets.from_seconds(left["seconds"])
        assert charged + rest.total == bill.buckets.total
        assert rest.useful == 0, "useful is what a shard was charged for"
        assert min(rest.items().values()) >= 0


@bounded
@given(balanced_books(any_prices()))
def test_an_unknown_price_makes_sums_unknown_and_never_smaller(books: Books) -> None:
    run = books.close()
    cost = run["cost"]
    unknown = [bill for bill in books.bills if _is_unknown(bill)]
    assert (cost["total"] is None) == bool(unknown)
    assert (cost["unallocated"] is None) == bool(unknown)
    for bill, worker, left in zip(books.bills, run["workers"], run["unallocated"], strict=True):
        assert (worker["cost"] is None) == _is_unknown(bill)
        assert (left["cost"] is None) == _is_unknown(bill)


def _is_unknown(bill: SessionBill) -> bool:
    return any(price.usd_per_hour is None and spent.total for price, spent in bill.spans)


@bounded
@given(balanced_books())
def test_seconds_are_conserved_at_every_price(books: Books) -> None:
    run = books.close()
    attempts = [attempt for manifest in books.manifests for attempt in manifest["attempts"]]
    for bill, worker, left in zip(books.bills, run["workers"], run["unallocated"], strict=True):
        own = [one for one in attempts if one["worker_id"] == bill.worker_id]
        told = together(span for row in (*own, left) for span in charges(row))
        billed = together(charges(worker))
        assert {price: spent.total for price, spent in billed.items()} == {
            price: told[price].total for price in billed
        }
        assert all(spent.total == 0 for price, spent in told.items() if price not in billed)


def test_a_charge_at_a_price_that_the_worker_never_had_is_found() -> None:
    books = small_books(Buckets(useful=9), Buckets(useful=9), "ended")
    dearer = NodePrice(Decimal(2), "a book")
    bills = tuple(replace(bill, spans=(Span(dearer, bill.buckets),)) for bill in books.bills)
    with pytest.raises(BooksUnbalanced, match="at a price it never had"):
        replace(books, bills=bills).close()


def test_no_time_at_a_price_that_was_not_told_yet_is_no_charge() -> None:
    """A shard went to another while an old beat lay over the one that told the price."""
    books = small_books(Buckets(), Buckets(useful=9), "ended")
    dearer = NodePrice(Decimal(2), "a book")
    bills = tuple(replace(bill, spans=(Span(dearer, bill.buckets),)) for bill in books.bills)
    run = replace(books, bills=bills).close()
    assert [row["price_per_hour"] for row in run["workers"]] == ["2"]


def test_a_dead_worker_may_have_had_a_price_that_only_its_checkpoint_tells() -> None:
    books = small_books(Buckets(useful=9_000_000), Buckets(), "work")
    cheaper = NodePrice(Decimal("0.5"), "before")
    bills = tuple(
        replace(bill, spans=(Span(cheaper, Buckets(boot=4_000_000)),)) for bill in books.bills
    )
    run = replace(books, bills=bills).close()
    assert [row["seconds"]["useful"] for row in run["workers"][0]["prices"]] == [0.0, 9.0]
    assert run["cost"]["total"] == f"{Decimal(4) / 2 / 3600 + Decimal(9) / 3600:.12f}"


def test_what_may_have_come_after_the_last_beat_is_a_line_of_its_own() -> None:
    books = small_books(Buckets(useful=9_000_000), Buckets(useful=9_000_000), "work")
    ended = [replace(bill, state="ended") for bill in books.bills]
    certain = replace(books, bills=tuple(ended)).close()
    assert "uncertain" not in certain["workers"][0]
    bills = tuple(replace(bill, lease_micros=36_000_000) for bill in books.bills)
    run = replace(books, bills=bills).close()
    assert run["workers"][0]["uncertain"] == {
        "seconds": 36.0,
        "cost": "0.010000000000",
        "until_closed": {"seconds": None, "cost": None},
    }
    assert run["cost"].pop("uncertain") == "0.010000000000"
    assert certain["cost"].pop("uncertain") == "0.000000000000"
    assert run["cost"].pop("uncertain_until_closed") is None
    assert certain["cost"].pop("uncertain_until_closed") == "0.000000000000"
    assert run["cost"] == certain["cost"]


def test_a_worker_that_fell_silent_lived_no_longer_than_until_the_books_were_closed() -> None:
    """The store was away for an hour, or the machine stood still: a lease is no bound then."""
    lived = Buckets(boot=20_000_000, load=80_000_000)
    bill = SessionBill(
        *("w1", Node(), (Span(PRICE, lived),), "load"),
        lease_micros=30_000_000,
        began_at="2026-11-20T22:00:00+00:00",
    )

    def until_closed(closed_at: str) -> Any:
        manifest = manifest_of(SHARD, [ROW], [])
        run = run_manifest(PROVENANCE, [SHARD], [manifest], [bill], "", closed_at)
        uncertain = run["workers"][0]["uncertain"]
        assert uncertain["seconds"] == 30.0
        assert run["cost"]["uncertain_until_closed"] == uncertain["until_closed"]["cost"]
        return uncertain["until_closed"]

    an_hour = {"seconds": 3500.0, "cost": f"{Decimal(3500) / 3600:.12f}"}
    assert until_closed("2026-11-20T23:00:00+00:00") == an_hour
    assert until_closed("2026-11-21T00:00:00+01:00") == an_hour
    # Another machine's clock closed them, and may be wrong: no more is known than nothing.
    assert until_closed("2026-11-20T21:00:00+00:00") == {"seconds": 0.0, "cost": "0.000000000000"}
    assert until_closed("one night") == {"seconds": None, "cost": None}


@bounded
@given(balanced_books())
def test_counts_are_the_sums_of_the_shards(books: Books) -> None:
    run = books.close()
    assert run["shards"] == len(books.planned)
    assert run["input"]["rows"] == sum(shard.rows for shard in books.planned)
    for section, key in (("output", "rows"), ("output", "rows_error"), ("tokens", "output")):
        assert run[section][key] == sum(m[section][key] for m in books.manifests)
    assert sum(run["output"]["finish_reasons"].values()) == run["output"]["rows"]


@bounded
@given(balanced_books(), st.data())
def test_a_worker_that_ended_cannot_be_charged_for_more_than_it_lived(
    books: Books, data: st.DataObject
) -> None:
    manifest = data.draw(st.sampled_from(books.manifests))
    attempt = data.draw(st.sampled_from(manifest["attempts"]))
    bills = tuple(
        replace(without_time(bill, charges(attempt)), state="ended")
        if bill.worker_id == attempt["worker_id"]
        else bill
        for bill in books.bills
    )
    with pytest.raises(BooksUnbalanced, match="more than it lived"):
        replace(books, bills=bills).close()


@bounded
@given(balanced_books(), st.sampled_from(["ended", "failed", "work"]), st.data())
def test_no_second_is_charged_twice_however_long_the_worker_loaded(
    books: Books, state: str, data: st.DataObject
) -> None:
    """Whether it ended or died: in all, it lived far longer than shards are charged for."""
    charged = charges_of(books.manifests)
    bills = [idle_but_for(bill, charged[bill.worker_id].buckets) for bill in books.bills]
    books = replace(books, bills=tuple(replace(bill, state=state) for bill in bills))
    books.close()
    shard = data.draw(st.integers(0, len(books.manifests) - 1))
    nth = data.draw(st.integers(0, len(books.manifests[shard]["attempts"]) - 1))
    with pytest.raises(BooksUnbalanced, match=r"1.000000 s useful or wasted more than it lived"):
        charged_again(books, shard, nth).close()


def test_the_same_seconds_in_two_shards_are_found_behind_a_load() -> None:
    """Of 170 s, 50 s were useful, and both shards are charged with them."""
    lived = Span(PRICE, Buckets(load=120_000_000, useful=50_000_000))
    half = Buckets(useful=50_000_000)
    shards = (shard_of(0, 1), shard_of(1, 1))
    manifests = tuple(
        manifest_of(shard, [ROW], [attempt_of("w1", 1, PRICE, half, lived=[lived])])
        for shard in shards
    )
    for state in ("ended", "work"):
        bill = SessionBill("w1", Node(), (lived,), state)
        with pytest.raises(BooksUnbalanced, match="worker w1: shards are charged 50") as refused:
            Books(shards, manifests, (bill,)).close()
        assert "shards 0, 1" in str(refused.value)
        assert "sessions/w1.json" in str(refused.value)


def test_checkpoints_of_an_earlier_version_prove_a_life_by_what_they_charge() -> None:
    """They do not say how long their worker had lived, and a run may go on from them."""
    books = small_books(Buckets(useful=9_000_000), Buckets(useful=3_000_000), "work")
    assert "lived" not in books.manifests[0]["attempts"][0]
    assert books.close()["workers"][0]["seconds"]["useful"] == 9.0


PRICE = NodePrice(Decimal(1), "a book")
SHARD = shard_of(0, 1)
ROW = FinishedRow(0, "x", "stop")


def small_books(charged: Buckets, lived: Buckets, state: str) -> Books:
    manifest = manifest_of(SHARD, [ROW], [attempt_of("w1", 1, PRICE, charged)])
    return Books((SHARD,), (manifest,), (SessionBill("w1", Node(), (Span(PRICE, lived),), state),))


def beside_an_unknown_price(attempt: Attempt) -> Books:
    """Of two shards, one is this attempt's; the other is of a worker whose price nobody knows."""
    spent = Buckets(useful=5_000_000)
    manifests = (
        manifest_of(SHARD, [ROW], [attempt]),
        manifest_of(shard_of(1, 1), [ROW], [attempt_of("u", 1, UNKNOWN_PRICE, spent)]),
    )
    bill = SessionBill("u", Node(), (Span(UNKNOWN_PRICE, spent),), "ended")
    return Books((SHARD, shard_of(1, 1)), manifests, (bill,))


def test_a_dead_worker_lived_at_least_as_long_as_its_checkpoints_prove() -> None:
    """Its last beat may be older than its last checkpoint: no reason to call the run unfinished."""
    charged = Buckets(useful=9_000_000, idle=1_000_000)
    run = small_books(charged, Buckets(boot=2_000_000, useful=3_000_000), "work").close()
    assert run["workers"][0]["seconds"]["useful"] == 9.0
    assert run["unallocated"][0]["seconds"] == Buckets(boot=2_000_000).seconds()
    cost = run["cost"]
    assert Decimal(cost["allocated"]) + Decimal(cost["unallocated"]) == Decimal(cost["total"])


def test_what_a_checkpoint_tells_of_a_dead_worker_beside_its_shard_is_in_its_bill() -> None:
    """Its last beat was before its engine was there; the checkpoint knows how long that took."""
    lived = [Span(PRICE, Buckets(boot=2_000_000, load=60_000_000, useful=10_000_000))]
    attempt = attempt_of("w1", 1, PRICE, Buckets(useful=9_000_000), lived=lived)
    bill = SessionBill("w1", Node(), (Span(PRICE, Buckets(boot=2_000_000)),), "work")
    run = Books((SHARD,), (manifest_of(SHARD, [ROW], [attempt]),), (bill,)).close()
    assert run["workers"][0]["seconds"] == lived[0].buckets.seconds()
    left = Buckets(boot=2_000_000, load=60_000_000, wasted=1_000_000)
    assert run["unallocated"][0]["seconds"] == left.seconds()


def test_a_dead_workers_last_interval_is_waste() -> None:
    run = small_books(
        Buckets(useful=3_000_000), Buckets(load=1_000_000, useful=5_000_000), "work"
    ).close()
    assert run["unallocated"][0]["seconds"] == Buckets(load=1_000_000, wasted=2_000_000).seconds()


@pytest.mark.parametrize("price", [PRICE, NodePrice(Decimal(0), "own"), UNKNOWN_PRICE])
def test_a_charge_to_a_worker_without_a_session_is_found(price: NodePrice) -> None:
    """Whatever it cost, and beside a worker whose price nobody knows, which makes sums null."""
    books = beside_an_unknown_price(attempt_of("ghost", 1, price, Buckets(useful=9_000_000)))
    with pytest.raises(BooksUnbalanced, match=r"ghost: shards are charged 9.000000 s of it"):
        books.close()
    ghost = SessionBill("ghost", Node(), (Span(price, Buckets(useful=9_000_000)),), "ended")
    replace(books, bills=(*books.bills, ghost)).close()


@bounded
@given(balanced_books(any_prices()), st.data())
def test_a_shard_that_says_another_cost_than_its_attempts_is_found(
    books: Books, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(books.manifests) - 1))
    manifest = books.manifests[number]
    said = manifest["cost"]["total"]
    other = "99.123" if said is None else decimal_text(Decimal(said) + Decimal("1e-12"))
    # Earlier versions took no time at an unknown price for an unknown cost.
    spans = [span for attempt in manifest["attempts"] for span in charges(attempt)]
    if said is not None and all(price.usd_per_hour is not None for price, _ in spans):
        other = data.draw(st.sampled_from([other, None]))
    altered = {**manifest, "cost": {**manifest["cost"], "total": other}}
    manifests = (*books.manifests[:number], altered, *books.manifests[number + 1 :])
    with pytest.raises(BooksUnbalanced, match="its cost is"):
        replace(books, manifests=manifests).close()


def test_a_shard_that_an_earlier_version_could_not_price_is_closed_all_the_same() -> None:
    """No time at an unknown price made its cost unknown; a run may go on from such shards."""
    attempts = [
        attempt_of("u", 1, UNKNOWN_PRICE, Buckets()),
        attempt_of("w1", 2, PRICE, Buckets(useful=9_000_000)),
    ]
    manifest = manifest_of(SHARD, [ROW], attempts)
    assert manifest["cost"]["total"] is not None
    older = {**manifest, "cost": {**manifest["cost"], "total": None}}
    bill = SessionBill("w1", Node(), (Span(PRICE, Buckets(useful=9_000_000)),), "ended")
    assert Books((SHARD,), (older,), (bill,)).close()["cost"]["allocated"] is None


def test_a_session_that_learnt_its_price_before_any_second_passed_has_a_known_cost() -> None:
    books = small_books(Buckets(useful=9_000_000), Buckets(useful=9_000_000), "ended")
    spans = (Span(UNKNOWN_PRICE, Buckets()), *books.bills[0].spans)
    run = replace(books, bills=(replace(books.bills[0], spans=spans),)).close()
    assert Decimal(run["cost"]["total"]) == Decimal("0.0025")


def test_a_missing_shard_is_named() -> None:
    books = small_books(Buckets(), Buckets(), "ended")
    with pytest.raises(BooksUnbalanced, match=r"not published: \[7\]"):
        replace(books, planned=(SHARD, shard_of(7, 1))).close()


def test_a_shard_that_nobody_planned_is_found() -> None:
    books = small_books(Buckets(), Buckets(), "ended")
    stranger = manifest_of(shard_of(7, 1), [ROW], [])
    with pytest.raises(BooksUnbalanced, match="nobody planned"):
        replace(books, manifests=(*books.manifests, stranger)).close()


@pytest.mark.parametrize(
    ("section", "key"), [("input", "rows"), ("input", "rows_selected"), ("output", "rows")]
)
def test_rows_that_went_missing_are_counted(section: str, key: str) -> None:
    books = small_books(Buckets(), Buckets(), "ended")
    manifest = dict(books.manifests[0])
    manifest[section] = manifest[section] | {key: 2}
    with pytest.raises(BooksUnbalanced, match="shard 0: 1 rows planned"):
        replace(books, manifests=(manifest,)).close()
