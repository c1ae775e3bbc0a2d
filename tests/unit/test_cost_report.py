"""However a run's cost is shared out, it is the run's cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cost_kinds import by_bucket, kinds_of_rest
from pipeline.core.cost_lines import RunBooks, lines_of
from pipeline.core.cost_report import By, cost_report, rows_by
from pipeline.core.money import DOLLAR_GRAIN, Buckets, NodePrice, dollars, sum_of
from pipeline.core.rows import TokenCounts
from pipeline.core.session import ShardAccount
from pipeline.core.spans import Span
from tests.unit.cost_books import (
    DAY,
    PRICE,
    SECOND,
    UNPRICED,
    attempt,
    books,
    run_books,
    shard,
    worker,
)
from tests.unit.strategies import any_prices, bounded, known_prices

WAYS: tuple[By, ...] = get_args(By)
AMOUNTS = ("total", "useful", "wasted", "overhead", "unallocated", "on_demand_equivalent")


def amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def micros(rows: Iterable[dict[str, Any]]) -> Buckets:
    return sum((Buckets.from_seconds(row["seconds"]) for row in rows), Buckets())


@bounded
@given(run_books(), st.sampled_from(WAYS), st.sampled_from([None, "Team", "Nobody"]))
def test_every_way_of_sharing_out_sums_to_the_runs_total(
    a_run: RunBooks, by: By, tag: str | None
) -> None:
    report = cost_report(a_run, by, tag)
    rows = report["rows"]
    run = a_run.run["cost"]
    assert sum(Decimal(row["cost"]["total"]) for row in rows) == Decimal(run["total"])
    assert Decimal(report["total"]) == Decimal(run["total"])
    assert Decimal(report["allocated"]) == Decimal(run["allocated"])
    assert Decimal(report["unallocated"]) == Decimal(run["unallocated"])
    for row in rows:
        cost = {name: Decimal(row["cost"][name]) for name in AMOUNTS}
        assert cost["total"] == cost["useful"] + cost["wasted"] + cost["overhead"]
    whole = rows_by(lines_of(a_run), "tag", "Nobody")
    assert len(whole) == 1
    for name in AMOUNTS:
        parts = [Decimal(row["cost"][name]) for row in rows]
        assert sum(parts) == Decimal(whole[0]["cost"][name]), name


@bounded
@given(run_books(), st.sampled_from(WAYS))
def test_seconds_and_tokens_are_shared_out_whole(a_run: RunBooks, by: By) -> None:
    rows = cost_report(a_run, by)["rows"]
    lived = micros(a_run.run["workers"])
    assert micros(rows).total == lived.total
    assert all(min(row["seconds"].values()) >= 0 for row in rows)
    for name in ("input", "cached_input", "output", "wasted"):
        of_shards = sum(manifest["tokens"][name] for manifest in a_run.manifests)
        of_nobody = sum(row["tokens"] for row in a_run.run["unallocated"])
        expected = of_shards + (of_nobody if name == "wasted" else 0)
        assert sum(row["tokens"][name] for row in rows) == expected, name


@bounded
@given(run_books(any_prices()), st.sampled_from(WAYS))
def test_an_unknown_price_is_unknown_in_every_row_that_has_some_of_it(
    a_run: RunBooks, by: By
) -> None:
    report = cost_report(a_run, by)
    assert amount(report["total"]) == amount(a_run.run["cost"]["total"])
    totals = [amount(row["cost"]["total"]) for row in report["rows"]]
    assert sum_of(totals) == amount(report["total"])


@bounded
@given(run_books())
def test_a_shards_row_is_what_its_manifest_says(a_run: RunBooks) -> None:
    rows = {row["shard"]: row for row in cost_report(a_run, "shard")["rows"]}
    for manifest in a_run.manifests:
        row = rows.pop(manifest["shard_id"])
        for name in ("total", "useful", "wasted", "overhead", "savings"):
            assert Decimal(row["cost"][name]) == Decimal(manifest["cost"][name]), name
        assert row["cost"]["per_1k_output_tokens"] == manifest["cost"]["per_1k_output_tokens"]
        assert row["cost"]["unallocated"] == "0"
    # What is left is the row of what no shard is charged with.
    assert list(rows) == [None]
    assert Decimal(rows[None]["cost"]["total"]) == Decimal(a_run.run["cost"]["unallocated"])


short = st.integers(0, 3)
"""Microseconds that cost a fraction of the last digit."""


@bounded
@given(
    st.lists(st.tuples(known_prices(), st.builds(Buckets, *[short] * 6)), min_size=1, max_size=3),
    st.integers(-9, 9),
)
def test_what_rounding_leaves_makes_no_bucket_cost_less_than_nothing(
    priced: list[tuple[NodePrice, Buckets]], grains: int
) -> None:
    spans = [Span(price, spent) for price, spent in priced]
    whole = sum_of(dollars(spent.total, price.usd_per_hour) for price, spent in spans)
    assert whole is not None
    cost = whole + grains * DOLLAR_GRAIN
    found = by_bucket(spans, kinds_of_rest(spans, cost))
    assert found is not None
    assert sum(found.values()) == cost
    assert min(found.values()) >= min(cost, Decimal(0))


def test_it_tells_how_far_the_bill_of_a_dead_worker_may_be_from_its_providers() -> None:
    """Of an hour that it was on, 40 s are known; the books were closed two hours after it began."""
    lived = Buckets(boot=10 * SECOND, load=30 * SECOND)
    dead = replace(worker("w1", "10:00:00", "10:00:40", lived, "load"), lease_seconds=30.0)
    told = cost_report(books([dead], []))
    assert Decimal(told["uncertain"]) == Decimal("0.030")
    assert Decimal(told["uncertain_until_closed"]) == Decimal("7.160")
    assert Decimal(told["total"]) == Decimal("0.040")


def one_night() -> RunBooks:
    """Two workers in two zones. The second works over midnight."""
    first = worker("w1", "10:00:00", "10:00:10", Buckets(boot=SECOND, useful=9 * SECOND))
    second = worker(
        "w2", "22:00:00", "22:00:40", Buckets(load=10 * SECOND, useful=30 * SECOND), zone="b"
    )
    late: dict[str, Any] = {
        "started_at": f"{DAY}T22:00:00Z",
        "ended_at": "2026-11-21T03:00:00+02:00",
    }
    return books(
        [first, second],
        [
            shard(0, [attempt(first, 1, "published", Buckets(useful=9 * SECOND), output=7)]),
            shard(1, [attempt(second, 1, "published", Buckets(useful=30 * SECOND), **late)]),
        ],
    )


def costs(a_run: RunBooks, by: By, tag: str | None = None) -> dict[Any, Decimal]:
    rows = cost_report(a_run, by, tag)["rows"]
    return {
        str(row[by]) if isinstance(row[by], dict) else row[by]: Decimal(row["cost"]["total"])
        for row in rows
    }


def test_it_is_shared_out_by_shard_worker_and_zone() -> None:
    night = one_night()
    shards = {0: Decimal("0.009"), 1: Decimal("0.030"), None: Decimal("0.011")}
    assert costs(night, "shard") == shards
    assert costs(night, "worker") == {"w1": Decimal("0.010"), "w2": Decimal("0.040")}
    assert costs(night, "zone") == {"a": Decimal("0.010"), "b": Decimal("0.040")}
    [_, by_b] = cost_report(night, "zone")["rows"]
    assert Decimal(by_b["cost"]["unallocated"]) == Decimal("0.010")
    assert Decimal(by_b["cost"]["per_1k_output_tokens"]) == Decimal("0.040")


def test_what_went_on_over_midnight_is_cut_by_its_time() -> None:
    """Two of three hours before midnight, by UTC: so are two thirds of its seconds and dollars."""
    rows = {row["day"]: row for row in cost_report(one_night(), "day")["rows"]}
    assert list(rows) == [DAY, "2026-11-21"]
    after = rows["2026-11-21"]
    assert Decimal(after["cost"]["total"]) == Decimal("0.010")
    assert after["seconds"]["useful"] == 10.0
    assert after["tokens"]["output"] == 333
    assert rows[DAY]["tokens"]["output"] == 1667


def test_it_is_shared_out_by_tags() -> None:
    night = one_night()
    night.manifests[1]["tags"] = {"Team": "search", "Project": "x"}  # type: ignore[index]
    assert costs(night, "tag") == {
        "{'Project': 'x', 'Team': 'search'}": Decimal("0.030"),
        "{'Team': 'data'}": Decimal("0.020"),
    }
    assert list(costs(night, "tag", "Project")) == ["{'Project': 'x'}", "{'Project': None}"]


def test_what_is_saved_is_told_against_on_demand() -> None:
    on_demand = cost_report(one_night())["on_demand"]
    assert Decimal(on_demand["equivalent"]) == Decimal("0.100")
    assert Decimal(on_demand["savings"]) == Decimal("0.050")
    assert on_demand["percent"] == "50.00"


@pytest.mark.parametrize("price", [UNPRICED, NodePrice(Decimal(1), "a contract")])
def test_savings_are_unknown_where_a_price_is(price: NodePrice) -> None:
    lived = Buckets(useful=SECOND)
    known, unknown = (
        worker("w1", "00:00:00", "01:00:00", lived),
        worker("w2", "00:00:00", "01:00:00", lived, price=price),
    )
    report = cost_report(
        books([known, unknown], [shard(0, [attempt(known, 1, "published", lived)])])
    )
    assert report["on_demand"]["savings"] is report["on_demand"]["percent"] is None


def test_a_shards_tokens_are_its_attempts() -> None:
    """Three quarters were decoded by the first, which is what it is told to have published."""
    lived = Buckets(useful=SECOND)
    first = worker("w1", "00:00:00", "01:00:00", lived)
    second = worker("w2", "00:00:00", "01:00:00", lived)
    attempts = [
        attempt(first, 1, "drained", lived, output=750),
        attempt(second, 2, "published", lived, output=250),
    ]
    rows = cost_report(books([first, second], [shard(0, attempts)]))["rows"]
    assert [row["tokens"]["output"] for row in rows] == [750, 250]
    assert [row["tokens"]["input"] for row in rows] == [1500, 500]


def test_work_that_is_not_published_yet_is_not_waste_yet() -> None:
    lived = Buckets(load=2 * SECOND, useful=8 * SECOND)
    busy = worker("w1", "00:00:00", "00:00:10", lived, state="work")
    published = [shard(0, [attempt(busy, 1, "published", Buckets(useful=3 * SECOND))])]
    now = cost_report(books([busy], published, complete=False))
    assert (now["complete"], now["seconds"]["useful"], now["seconds"]["wasted"]) == (False, 8.0, 0)
    assert Decimal(now["unallocated"]) == Decimal("0.007")
    over = cost_report(books([busy], published))
    assert (over["seconds"]["useful"], over["seconds"]["wasted"]) == (3.0, 5.0)
    assert over["total"] == now["total"]


def test_tokens_in_hand_are_not_waste_yet_either() -> None:
    lived = Buckets(useful=8 * SECOND)
    busy = replace(
        worker("w1", "00:00:00", "00:00:10", lived, state="work"),
        shards={1: ShardAccount(1, decoded=500)},
        # Another published it meanwhile, and knows of none of these.
        dropped={0: ShardAccount(1, decoded=40)},
        decoded=547,
        unshared=7,
    )
    other = worker("w2", "00:00:00", "00:00:10", lived)
    published = [shard(0, [attempt(other, 2, "published", lived)])]
    assert cost_report(books([busy, other], published, complete=False))["tokens"]["wasted"] == 47
    assert cost_report(books([busy, other], published))["tokens"]["wasted"] == 547


def test_a_run_without_a_shard_yet_has_its_workers_bills() -> None:
    loading = worker("w1", "00:00:00", "00:00:10", Buckets(load=10 * SECOND), state="load")
    report = cost_report(books([loading], [], complete=False), "shard")
    assert Decimal(report["total"]) == Decimal("0.010")
    assert (report["allocated"], report["per_1k_output_tokens"]) == ("0", None)
    assert [row["shard"] for row in report["rows"]] == [None]


def test_an_attempt_may_have_had_several_prices() -> None:
    lived = Buckets(useful=4 * SECOND)
    only = worker("w1", "00:00:00", "01:00:00", lived)
    manifest = shard(0, [attempt(only, 1, "published", lived)])
    night = books([only], [manifest])
    dear = NodePrice(Decimal("7.2"), "later", Decimal("7.2"))
    prices = [
        {**PRICE.to_json(), "seconds": Buckets(useful=SECOND).seconds()},
        {**dear.to_json(), "seconds": Buckets(useful=3 * SECOND).seconds()},
    ]
    manifest["attempts"][0]["prices"] = prices
    [row, _] = cost_report(night, "shard")["rows"]
    assert Decimal(row["cost"]["total"]) == Decimal("0.007")
    assert Decimal(row["cost"]["on_demand_equivalent"]) == Decimal("0.008")


def test_books_of_an_earlier_version_are_read_too() -> None:
    """They had a price in a worker's row alone, and none on demand there."""
    night = one_night()
    for row in night.run["unallocated"]:
        for key in PRICE.to_json():
            del row[key]
    for row in night.run["workers"]:
        del row["on_demand_price_per_hour"]
    report = cost_report(night)
    assert Decimal(report["total"]) == Decimal("0.050")
    assert report["on_demand"]["savings"] is None


def test_the_tokens_of_no_shard_are_its_workers() -> None:
    lines = lines_of(one_night())
    assert [line.tokens for line in lines if line.shard_id is None] == [TokenCounts()] * 2
