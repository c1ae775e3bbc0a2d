"""When to stop for money, by rules that are checked against every history of beats."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget import Budget, BudgetTerms
from pipeline.core.budget import (
    Meter,
    Sight,
    affordable_starts,
    committed_usd,
    is_reached,
    overshoot_bound,
    seconds_usd,
    spent_usd,
    warns_at,
)
from pipeline.core.errors import WorkersFailed
from pipeline.core.money import UNKNOWN_PRICE, UNTOLD_PRICE, Buckets, Node, NodePrice
from pipeline.core.session import Session

prices = st.decimals("0", "40", places=4)
seconds = st.floats(0, 5_000)
meters = st.lists(
    st.builds(Meter, st.decimals("0", "50", places=6), prices, seconds, st.booleans())
)
LEASE = 30.0


def test_a_worker_without_a_price_is_refused_before_it_has_spent_a_second() -> None:
    """Its bill, of no time, is known: 0."""
    silent = {"w": Session("w", 0, "work", "began", "beat", Node(), UNKNOWN_PRICE)}
    budget = Budget(BudgetTerms(budget_usd=Decimal(1)), asked_for={})
    with pytest.raises(WorkersFailed, match="price is unknown"):
        budget.look(silent, of_now=silent, began=0.0, now=1.0)


def session_of(price: NodePrice, worker_id: str = "w", hours: int = 1) -> Session:
    spent = Buckets(useful=hours * 3_600_000_000)
    return Session(worker_id, 1, "work", "began", "beat", Node(), price, spent)


def test_workers_that_cost_nothing_may_go_on_for_ever() -> None:
    """They stopped a lease after their supervisor was gone, since a budget they do not touch was
    thought to be spent."""
    budget = Budget(BudgetTerms(budget_usd=Decimal(1), lease_seconds=LEASE), asked_for={})
    assert budget.allowed_seconds(1.0) == LEASE, "whoever comes waits for a better word"
    for beat, now in ((1, 1.0), (2, 2.0)):
        free = replace(session_of(NodePrice(Decimal(0), "a gift")), beat=beat)
        budget.look({"w": free}, {"w": free}, now, now)
    assert budget.allowed_seconds(3.0) is None


FREE, DEAR = NodePrice(Decimal(0), "a gift"), NodePrice(Decimal(30), "a market")


@pytest.mark.parametrize(
    ("others", "asked_for", "may_go_on"),
    [
        ([replace(session_of(DEAR, "w2"), state="ended")], {}, True),
        ([session_of(UNTOLD_PRICE, "w2")], {}, False),
        ([session_of(DEAR, "w2")], {}, False),
        ([], {"w2": 1.0}, False),
    ],
    ids=["a dear one has ended", "one may be dear", "one is dear", "one is asked for"],
)
def test_the_free_go_on_where_nobody_else_may_spend(
    others: list[Session], asked_for: dict[str, float], may_go_on: bool
) -> None:
    terms = BudgetTerms(budget_usd=Decimal(1_000), lease_seconds=LEASE)
    budget = Budget(terms, asked_for=asked_for)
    for beat, now in ((1, 1.0), (2, 2.0)):
        seen = [replace(one, beat=beat) for one in (session_of(FREE), *others)]
        sessions = {one.worker_id: one for one in seen}
        budget.look(sessions, sessions, now, now)
    assert (budget.allowed_seconds(3.0) is None) == may_go_on


def test_nobody_is_warned_of_a_price_that_a_loading_worker_may_hear_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    budget = Budget(BudgetTerms(warn_usd=Decimal(5)), asked_for={})
    spent = Buckets(boot=1_000_000)
    loading = Session("w", 1, "load", "began", "beat", Node(), UNKNOWN_PRICE, spent)
    budget.look({"w": loading}, {}, 0.0, 1.0)
    assert caplog.messages == []
    budget.look({"w": replace(loading, state="failed")}, {}, 1.0, 2.0)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("usd", [Decimal(1), None])
def test_what_counts_as_nothing_is_said_once(
    usd: Decimal | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Of earlier workers under a budget, of all where one is only warned; not of those that never
    told a price, which count as the dearest."""
    terms = BudgetTerms(budget_usd=usd, warn_usd=Decimal(1))
    budget = Budget(terms, asked_for={})
    sessions = {
        "unpriced": session_of(UNKNOWN_PRICE, "unpriced"),
        "untold": session_of(UNTOLD_PRICE, "untold"),
        "priced": session_of(NodePrice(Decimal("0.1"), "a book"), "priced"),
    }
    for _ in range(2):
        budget.look(sessions, {}, began=0.0, now=1.0)
    [line] = caplog.messages
    assert line.startswith("what 1 workers cost is unknown") and line.endswith(": unpriced")


@given(meters, seconds)
def test_what_is_committed_is_more_than_what_is_spent_by_the_running_alone(
    fleet: list[Meter], drain: float
) -> None:
    kept = committed_usd(fleet, drain) - spent_usd(fleet)
    assert kept == sum(
        (seconds_usd(drain, meter.usd_per_hour) for meter in fleet if meter.runs), Decimal(0)
    )


@given(meters, seconds, st.decimals("0.01", "1000", places=2), prices, seconds, st.integers(0, 9))
def test_workers_that_are_started_come_to_work_within_the_budget(
    fleet: list[Meter],
    drain: float,
    budget: Decimal,
    price: Decimal,
    start: float,
    wanted: int,
) -> None:
    allowed = affordable_starts(
        budget,
        fleet,
        wanted=wanted,
        usd_per_hour=price,
        start_seconds=start,
        drain_seconds=drain,
    )
    assert 0 <= allowed <= wanted

    def by_then(started: int) -> Decimal:
        """What is committed when they have loaded."""
        running = [meter for meter in fleet if meter.runs]
        more = sum((seconds_usd(start, meter.usd_per_hour) for meter in running), Decimal(0))
        return committed_usd(fleet, drain) + more + started * seconds_usd(start + drain, price)

    if allowed:
        assert by_then(allowed) <= budget
    if allowed < wanted:
        assert by_then(allowed + 1) > budget or by_then(0) >= budget


@given(
    born=st.floats(0, 100),
    arrivals=st.lists(st.floats(0.1, 12), min_size=1, max_size=30),
    lag=st.floats(0, 2),
    tick=st.floats(0.5, 8),
    dies_after=st.none() | st.floats(0, 300),
    told_after=st.none() | st.floats(0, 20),
)
def test_no_second_that_a_worker_lived_is_missed_but_for_the_lag(
    born: float,
    arrivals: list[float],
    lag: float,
    tick: float,
    dies_after: float | None,
    told_after: float | None,
) -> None:
    """Beats arrive, with bills as old as the lag; an observer looks each tick, and estimates."""
    death = None if dies_after is None else born + dies_after
    at, beats = born, []
    for gap in arrivals:
        at += gap
        if death is None or at <= death:
            beats.append((at, max(0.0, at - lag - born)))
    sight, known, looked = None, -1, max(0.0, born - tick)
    now = looked
    if death is not None:
        # Who lives beats, within half a lease of the last time.
        death = min(death, at + 12)
    while now < (at if death is None else death + 40):
        now += tick
        seen = max((n for n, (arrived, _) in enumerate(beats) if arrived <= now), default=-1)
        if seen > known:
            sight, known = Sight(billed_from=looked, heard_at=now), seen
        if sight is not None:
            told = death is not None and told_after is not None and now >= death + told_after
            if told and sight.ended_at is None:
                sight = Sight(sight.billed_from, sight.heard_at, now)
            lived = (now if death is None else min(now, death)) - born
            estimate = beats[known][1] + sight.unbilled_seconds(now, now, LEASE)
            assert estimate >= lived - lag - 1e-6
        looked = now


def test_the_dead_are_not_counted_on_for_ever() -> None:
    silent = Sight(billed_from=9.0, heard_at=10.0)
    assert silent.lives(39.9, LEASE)
    assert silent.unbilled_seconds(39.9, 39.9, LEASE) == pytest.approx(30.9)
    assert not silent.lives(40.0, LEASE)
    assert silent.unbilled_seconds(4_000.0, 4_000.0, LEASE) == 16.0
    told = Sight(9.0, 10.0, ended_at=12.0)
    assert told.unbilled_seconds(4_000.0, 4_000.0, LEASE) == 3.0


def test_a_store_that_is_away_makes_nobody_dead() -> None:
    assert Sight(9.0, 10.0).unbilled_seconds(now=700.0, looked_at=11.0, lease_seconds=LEASE) == 691


def test_the_bound_is_what_the_running_cost_in_a_tick_and_what_exceeds_the_reserve() -> None:
    two = [Decimal(3_600), Decimal(7_200)]
    assert overshoot_bound(two, tick_seconds=2, lag_seconds=0, drain_seconds=4) == 6
    bound = overshoot_bound(
        two, tick_seconds=2, lag_seconds=0.5, drain_seconds=4, reserved_seconds=3
    )
    assert bound == Decimal("10.5")
    assert overshoot_bound([], tick_seconds=9, lag_seconds=9, drain_seconds=99) == 0


def test_it_stops_when_a_drain_would_still_fit() -> None:
    fleet = [Meter(Decimal(10), Decimal(3_600), unbilled_seconds=4.0, runs=True)]
    assert not is_reached(Decimal("20.1"), fleet, drain_seconds=6)
    assert is_reached(Decimal(20), fleet, drain_seconds=6)


@pytest.mark.parametrize(
    ("budget", "warn", "at"),
    [(None, None, None), ("40", None, "32"), ("40", "10", "10"), (None, "10", "10")],
)
def test_when_somebody_is_warned(budget: str | None, warn: str | None, at: str | None) -> None:
    def usd(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    assert warns_at(usd(budget), usd(warn)) == usd(at)
