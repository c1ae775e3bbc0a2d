"""Any night with a budget: it stops within the stated bound, goes on when it was raised, and its
books balance."""

from __future__ import annotations

import pytest

from tests.simulation.budgets import live_all


def check(nights: int) -> None:
    lived = list(live_all(range(1, nights + 1)))
    wrong = [f"seed {night.seed}: {night.found}" for night in lived if night.found]
    assert not wrong, "\n".join(wrong)
    stops = [stop for night in lived for stop in night.stops]
    assert len(stops) > nights / 2, "too few budgets were ever reached for this to prove anything"
    over = [stop for stop in stops if stop.overshoot > 0]
    assert max(stop.share_of_bound for stop in over) > 0.3, "the bound is far from what happens"


def test_no_budget_is_overshot_by_more_than_the_bound() -> None:
    check(150)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_no_budget_of_a_thousand_is_overshot_by_more_than_the_bound() -> None:
    check(1_000)
