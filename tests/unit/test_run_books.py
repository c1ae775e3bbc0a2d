"""Conservation: shards and unallocated rows sum to the workers' bills, to the last digit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import BooksUnbalanced
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.rows import FinishedRow
from pipeline.core.run_manifest import SessionBill
from tests.unit.books import Books, attempt_of, balanced_books, manifest_of, shard_of, without_time
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
    unknown = [bill for bill in books.bills if bill.price.usd_per_hour is None]
    assert (cost["total"] is None) == bool(unknown)
    assert (cost["unallocated"] is None) == bool(unknown)
    for bill, worker, left in zip(books.bills, run["workers"], run["unallocated"], strict=True):
        assert (worker["cost"] is None) == (bill.price.usd_per_hour is None)
        assert (left["cost"] is None) == (bill.price.usd_per_hour is None)


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
        replace(without_time(bill, attempt["seconds"]), state="ended")
        if bill.worker_id == attempt["worker_id"]
        else bill
        for bill in books.bills
    )
    with pytest.raises(BooksUnbalanced, match="more than it lived"):
        replace(books, bills=bills).close()


PRICE = NodePrice(Decimal(1), "a book")
SHARD = shard_of(0, 1)
ROW = FinishedRow(0, "x", "stop")


def small_books(charged: Buckets, lived: Buckets, state: str) -> Books:
    manifest = manifest_of(SHARD, [ROW], [attempt_of("w1", 1, PRICE, charged)])
    return Books((SHARD,), (manifest,), (SessionBill("w1", Node(), PRICE, lived, state),))


def test_a_dead_worker_lived_at_least_as_long_as_its_checkpoints_prove() -> None:
    """Its last beat may be older than its last checkpoint: no reason to call the run unfinished."""
    charged = Buckets(useful=9_000_000, idle=1_000_000)
    run = small_books(charged, Buckets(boot=2_000_000, useful=3_000_000), "work").close()
    assert run["workers"][0]["seconds"]["useful"] == 9.0
    assert run["unallocated"][0]["seconds"] == Buckets(boot=2_000_000).seconds()
    cost = run["cost"]
    assert Decimal(cost["allocated"]) + Decimal(cost["unallocated"]) == Decimal(cost["total"])


def test_a_dead_workers_last_interval_is_waste() -> None:
    run = small_books(
        Buckets(useful=3_000_000), Buckets(load=1_000_000, useful=5_000_000), "work"
    ).close()
    assert run["unallocated"][0]["seconds"] == Buckets(load=1_000_000, wasted=2_000_000).seconds()


def test_a_charge_to_a_worker_without_a_session_is_found() -> None:
    books = small_books(Buckets(useful=9), Buckets(useful=9), "ended")
    with pytest.raises(BooksUnbalanced, match="is not the workers' bill"):
        replace(books, bills=()).close()


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
