"""Which workers are counted on, how many to start, and when to give up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.fleet import (
    BOOT_SECONDS,
    counts_as_live,
    gives_up,
    workers_to_start,
)
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.core.session import Session, State
from tests.unit.strategies import bounded

LEASE_SECONDS = 30.0
WORKING = Session("w1", 3, "work", "then", "then", Node(), UNKNOWN_PRICE)

asked = st.none() | st.floats(0, 1e6)
seconds = st.floats(0, 1e5)
counts = st.integers(0, 40)


def live(
    session: Session | None,
    *,
    asked_for: float | None = 0.0,
    still_for: float = 0.0,
    now: float = 1e6,
) -> bool:
    return counts_as_live(
        session, asked_for=asked_for, still_for=still_for, now=now, lease_seconds=LEASE_SECONDS
    )


@pytest.mark.parametrize(("waited", "expected"), [(0.0, True), (0.5, True), (1.0, False)])
def test_a_worker_without_a_session_is_counted_on_until_it_should_have_booted(
    waited: float, expected: bool
) -> None:
    assert live(None, asked_for=100.0, now=100.0 + waited * BOOT_SECONDS) is expected


def test_nobody_counts_on_a_stranger_that_has_no_session() -> None:
    assert not live(None, asked_for=None)


@bounded
@given(seconds)
def test_silence_is_believed_after_a_lease_and_a_strangers_after_half(still_for: float) -> None:
    assert live(WORKING, still_for=still_for) == (still_for < LEASE_SECONDS)
    assert live(WORKING, asked_for=None, still_for=still_for) == (still_for < LEASE_SECONDS / 2)


@pytest.mark.parametrize("asked_for", [None, 0.0])
def test_beats_four_times_in_a_lease_keep_a_worker_live(asked_for: float | None) -> None:
    assert live(WORKING, asked_for=asked_for, still_for=LEASE_SECONDS / 4)


@pytest.mark.parametrize("state", ["ended", "failed"])
@given(asked, seconds)
def test_a_session_that_is_over_is_not_live(
    state: State, asked_for: float | None, still_for: float
) -> None:
    assert not live(replace(WORKING, state=state), asked_for=asked_for, still_for=still_for)


def start(*, unclaimed: int = 0, holders: int = 0, live: int = 0, wanted: int = 4) -> int:
    return workers_to_start(unclaimed=unclaimed, holders=holders, live=live, wanted=wanted)


@bounded
@given(unclaimed=counts, holders=counts, live=counts, wanted=counts)
def test_never_more_workers_than_wanted_or_of_use(
    unclaimed: int, holders: int, live: int, wanted: int
) -> None:
    missing = start(unclaimed=unclaimed, holders=holders, live=live, wanted=wanted)
    assert missing >= 0
    if missing:
        assert live + missing == min(wanted, unclaimed + holders)


@bounded
@given(holders=counts, wanted=counts, idle=counts)
def test_none_is_started_while_live_holders_have_all_that_is_left(
    holders: int, wanted: int, idle: int
) -> None:
    assert start(holders=holders, live=holders + idle, wanted=wanted) == 0


@bounded
@given(alive=counts, dead=counts, more=counts)
def test_each_dead_holder_gets_a_successor(alive: int, dead: int, more: int) -> None:
    holders = alive + dead
    assert start(holders=holders, live=alive, wanted=holders + more) == dead


@bounded
@given(unclaimed=counts, holders=counts, live=counts, wanted=counts)
def test_starting_what_is_missing_leaves_nothing_missing(
    unclaimed: int, holders: int, live: int, wanted: int
) -> None:
    missing = start(unclaimed=unclaimed, holders=holders, live=live, wanted=wanted)
    assert start(unclaimed=unclaimed, holders=holders, live=live + missing, wanted=wanted) == 0


@pytest.mark.parametrize(
    ("unclaimed", "holders", "live", "wanted", "expected"),
    [
        (8, 0, 0, 4, 4),
        (2, 0, 0, 4, 2),
        (2, 1, 1, 4, 2),
        (0, 4, 3, 4, 1),
        (0, 1, 0, 4, 1),
        (9, 4, 4, 4, 0),
        (9, 2, 6, 4, 0),
        (0, 0, 0, 4, 0),
    ],
)
def test_examples(unclaimed: int, holders: int, live: int, wanted: int, expected: int) -> None:
    assert start(unclaimed=unclaimed, holders=holders, live=live, wanted=wanted) == expected


@pytest.mark.parametrize("wanted", [1, 2, 8])
def test_a_run_gives_up_when_each_place_has_failed_three_times(wanted: int) -> None:
    assert not gives_up(failed=3 * wanted - 1, vanished=0, wanted=wanted)
    assert gives_up(failed=3 * wanted, vanished=0, wanted=wanted)


@pytest.mark.parametrize("wanted", [1, 2, 8])
def test_a_run_bears_more_of_what_may_be_preemptions(wanted: int) -> None:
    assert not gives_up(failed=2, vanished=10 * wanted - 3, wanted=wanted)
    assert gives_up(failed=2, vanished=10 * wanted - 2, wanted=wanted)


def test_a_run_that_wants_nobody_does_not_give_up_for_nothing() -> None:
    assert not gives_up(failed=0, vanished=0, wanted=0)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_helpers_keep_no_place_from_a_free_shards_next_owner(
    unclaimed: int, holders: int, helping: int, wanted: int
) -> None:
    """But they are in the fleet, and nobody is started for the rows that they help with."""
    live = holders + helping
    started = workers_to_start(
        unclaimed=unclaimed, holders=holders, live=live, wanted=wanted, helping=helping
    )
    assert started == max(0, min(unclaimed, wanted - live))
