"""For how long workers may go on: what they make of an allowance, and how it is worked out."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.allowance import AllowanceNotice
from pipeline.core.allowance import Allowance, Leave
from pipeline.core.budget import Meter, allowed_seconds, is_reached
from pipeline.core.errors import ObjectDamaged
from pipeline.core.layout import allowance_key
from pipeline.ledger import Ledger
from pipeline.stores.memory import MemoryStore
from tests.simulation.fakes import VirtualClock
from tests.simulation.memory_rows import JsonFormat

LEASE = 30.0
BEAT = LEASE / 4
REASON = "the budget is spent"


def said(number: int, seconds: float | None, supervisor: str = "one") -> Allowance:
    return Allowance(supervisor, number, seconds, REASON)


def test_without_a_word_nobody_stops() -> None:
    assert Leave().after(None, 5.0, LEASE).ends_at == math.inf


def test_without_a_budget_nobody_stops() -> None:
    assert Leave().after(said(0, None), 5.0, LEASE).ends_at == math.inf


def test_a_stop_holds_at_once() -> None:
    assert Leave().after(said(4, 0.0), 5.0, LEASE).ends_at == 5.0


def test_one_of_unknown_age_counts_for_a_lease() -> None:
    first = Leave().after(said(4, 900.0), 5.0, LEASE)
    assert first.ends_at == 5.0 + LEASE
    assert first.after(said(4, 900.0), 12.0, LEASE).ends_at == 5.0 + LEASE, "it is still the same"
    assert first.after(said(5, 890.0), 12.0, LEASE).ends_at == 902.0, "somebody lives"


def test_after_a_silence_the_age_is_unknown_again() -> None:
    leave = Leave().after(said(4, 900.0), 0.0, LEASE).after(said(5, 890.0), 7.0, LEASE)
    assert leave.after(said(9, 800.0), 7.0 + LEASE, LEASE).ends_at == 7.0 + 2 * LEASE
    assert leave.after(said(9, None), 7.0 + LEASE, LEASE).ends_at == math.inf


def test_one_that_came_late_is_passed_over() -> None:
    leave = Leave().after(said(4, 900.0), 0.0, LEASE).after(said(5, 100.0), 7.0, LEASE)
    assert leave.after(said(4, 900.0), 14.0, LEASE).ends_at == 107.0
    assert leave.after(said(0, 900.0, "another"), 14.0, LEASE).ends_at == 914.0


def test_an_answer_that_was_overtaken_is_passed_over() -> None:
    leave = Leave().after(said(5, 100.0), 7.0, LEASE)
    assert leave.after(said(6, 0.0), 6.0, LEASE) == leave


def test_one_that_was_deleted_holds_on() -> None:
    leave = Leave().after(said(5, 20.0), 7.0, LEASE)
    assert leave.after(None, 14.0, LEASE).ends_at == 27.0


@given(
    spent=st.decimals("0", "50", places=4),
    prices=st.lists(st.decimals("0.1", "100", places=4), min_size=1, max_size=5),
    budget=st.decimals("0.1", "100", places=2),
    drain=st.floats(0, 60),
)
def test_it_ends_when_the_budget_is_reached(
    spent: Decimal, prices: list[Decimal], budget: Decimal, drain: float
) -> None:
    def after(seconds: float) -> list[Meter]:
        fleet = [Meter(Decimal(0), price, seconds, runs=True) for price in prices]
        return [Meter(spent, Decimal(9)), *fleet]

    seconds = allowed_seconds(budget, after(0.0), drain)
    assert seconds is not None
    assert is_reached(budget, after(seconds + 0.001), drain)
    assert seconds == 0.0 or not is_reached(budget, after(seconds - 0.001), drain)


def test_nobody_who_costs_anything_needs_no_end() -> None:
    assert allowed_seconds(Decimal(9), [Meter(Decimal(1), Decimal(9))], 5.0) is None
    assert allowed_seconds(Decimal(9), [Meter(Decimal(0), Decimal(0), runs=True)], 5.0) is None
    assert allowed_seconds(Decimal(1), [Meter(Decimal(1), Decimal(9))], 5.0) == 0.0


@given(
    price=st.floats(0.1, 50),
    budget=st.floats(1, 500),
    dies_at=st.floats(0, 400),
    booted_at=st.floats(0, 100),
    gaps=st.lists(st.floats(0.1, BEAT), min_size=1, max_size=200),
)
def test_a_worker_whose_supervisor_is_gone_stops_in_time(
    price: float, budget: float, dies_at: float, booted_at: float, gaps: list[float]
) -> None:
    """It is told each quarter of a lease for how long it may go on, until nobody tells any more;
    it asks as often, and keeps to what it read, by a clock of its own."""
    told = [
        (BEAT * n, said(n, max(0.0, (budget - price * BEAT * n) / price)))
        for n in range(1 + int(dies_at / BEAT))
    ]
    leave, now, origin = Leave(), booted_at, 77_000.0
    reached_at = budget / price
    for gap in gaps:
        if origin + now >= leave.ends_at:
            break
        newest = max((one for at, one in told if at <= now), key=lambda one: one.number)
        leave = leave.after(newest, origin + now, LEASE)
        assert leave.ends_at - origin <= max(reached_at + BEAT, booted_at + LEASE) + 1e-6
        now += gap


# Looked for in the bucket.


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(MemoryStore(), "night", JsonFormat())


def test_a_notice_is_given_when_it_has_ended(clock: VirtualClock, ledger: Ledger) -> None:
    notice = AllowanceNotice(ledger, clock, LEASE)
    notice.look()
    assert notice.pending() is None
    ledger.allow(said(0, 900.0))
    notice.look()
    ledger.allow(said(1, 40.0))
    notice.look()
    clock.sleep(39.0)
    assert notice.pending() is None
    clock.sleep(1.0)
    found = notice.pending()
    assert found is not None
    assert (found.kind, found.reason, found.seconds) == ("stop", REASON, None)


def test_a_torn_allowance_is_said_to_be(clock: VirtualClock) -> None:
    store = MemoryStore()
    store.put(allowance_key("night"), b"{")
    with pytest.raises(ObjectDamaged):
        AllowanceNotice(Ledger(store, "night", JsonFormat()), clock, LEASE).look()
