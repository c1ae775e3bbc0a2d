"""Time and money add up to the last digit, and an unknown price is never a price of nothing."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import (
    DOLLAR_GRAIN,
    UNKNOWN_PRICE,
    Buckets,
    NodePrice,
    decimal_of,
    decimal_text,
    dollars,
    share_out,
    share_out_dollars,
    sum_of,
)
from tests.unit.strategies import bounded, buckets, micros, prices_per_hour

weights = st.dictionaries(st.integers(0, 50), st.integers(0, 10**7), min_size=1, max_size=12)
amounts = st.decimals("0", "1e12", allow_nan=False, places=12)


@bounded
@given(micros, weights)
def test_shares_sum_to_the_whole(total: int, parts_of: dict[int, int]) -> None:
    parts = share_out(total, parts_of)
    assert sum(parts.values()) == total
    assert list(parts) == list(parts_of)
    assert min(parts.values()) >= 0


@bounded
@given(micros, weights.filter(lambda w: any(w.values())))
def test_shares_are_proportional_within_one(total: int, parts_of: dict[int, int]) -> None:
    whole = sum(parts_of.values())
    for key, part in share_out(total, parts_of).items():
        assert abs(part * whole - total * parts_of[key]) < whole


@bounded
@given(micros, st.integers(1, 12))
def test_no_weight_at_all_means_equal_parts(total: int, count: int) -> None:
    parts = share_out(total, dict.fromkeys(range(count), 0)).values()
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


def test_nobody_to_charge_is_charged_nothing() -> None:
    assert share_out(17, {}) == {}


def test_ties_go_to_whoever_is_named_first() -> None:
    assert share_out(2, {"b": 1, "a": 1, "c": 1}) == {"b": 1, "a": 1, "c": 0}


@bounded
@given(buckets(), buckets())
def test_buckets_add_and_subtract(one: Buckets, other: Buckets) -> None:
    assert (one + other) - other == one
    assert (one + other).total == one.total + other.total
    assert one.total == one.useful + one.wasted + one.overhead
    assert one.plus("idle", 5).idle == one.idle + 5
    assert one.plus("idle", 5).total == one.total + 5


@bounded
@given(buckets(st.integers(0, 2**50)))
def test_buckets_survive_seconds(spent: Buckets) -> None:
    assert Buckets.from_seconds(spent.seconds()) == spent


@bounded
@given(micros, prices_per_hour)
def test_dollars_are_price_times_time_to_the_grain(time: int, price: Decimal) -> None:
    usd = dollars(time, price)
    assert usd is not None
    assert usd.as_tuple().exponent == DOLLAR_GRAIN.as_tuple().exponent
    assert abs(usd * 3_600_000_000 - price * time) <= DOLLAR_GRAIN / 2 * 3_600_000_000


def test_an_hour_costs_its_price() -> None:
    assert dollars(3_600_000_000, Decimal("1.29")) == Decimal("1.29")


@pytest.mark.parametrize("time", [1, 10**12])
def test_an_unknown_price_makes_an_unknown_cost(time: int) -> None:
    assert dollars(time, None) is None


def test_no_time_costs_nothing_whatever_its_price() -> None:
    assert dollars(0, None) == dollars(0, Decimal(3)) == 0


@bounded
@given(amounts.map(lambda usd: usd.quantize(DOLLAR_GRAIN)), st.lists(micros, min_size=1))
def test_dollars_are_shared_out_to_the_last_grain(usd: Decimal, weights: list[int]) -> None:
    shares = share_out_dollars(usd, dict(enumerate(weights))).values()
    assert sum(shares) == usd


@given(st.lists(amounts, max_size=6), st.integers(0, 6))
def test_one_unknown_amount_makes_the_sum_unknown(known: list[Decimal], place: int) -> None:
    assert sum_of(known) == sum(known, Decimal(0))
    mixed: list[Decimal | None] = list(known)
    mixed.insert(place, None)
    assert sum_of(mixed) is None


@given(amounts)
def test_money_survives_text(amount: Decimal) -> None:
    text = decimal_text(amount)
    assert text is not None
    assert "E" not in text.upper()
    assert decimal_of(text) == amount
    assert decimal_text(None) is None
    assert decimal_of(None) is None


# Several workers on one machine.


@bounded
@given(prices_per_hour, prices_per_hour, st.integers(1, 64))
def test_workers_that_share_a_machine_are_charged_for_one(
    usd: Decimal, on_demand: Decimal, workers: int
) -> None:
    part = NodePrice(usd, "a list", on_demand, "another").of_share(Fraction(1, workers))
    for whole, own in ((usd, part.usd_per_hour), (on_demand, part.on_demand_usd_per_hour)):
        assert own is not None
        assert own == own.quantize(DOLLAR_GRAIN), "sums of it are exact"
        assert abs(own * workers - whole) <= workers * DOLLAR_GRAIN / 2
    said = "" if workers == 1 else f"; 1/{workers} of the machine"
    assert (part.source, part.on_demand_source) == (f"a list{said}", f"another{said}")


def test_a_share_of_an_unknown_price_is_unknown() -> None:
    assert UNKNOWN_PRICE.of_share(Fraction(1, 4)) == UNKNOWN_PRICE


@bounded
@given(buckets(), st.integers(1, 8))
def test_workers_that_share_a_machine_take_its_time_once(spent: Buckets, workers: int) -> None:
    part = spent.of_share(Fraction(1, workers))
    assert all(
        abs(own * workers - whole) <= workers / 2
        for own, whole in zip(part.items().values(), spent.items().values(), strict=True)
    )
