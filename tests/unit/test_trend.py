"""Quantiles of what may come next, from a few nights."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.spread import Case, Spread, t_quantile
from pipeline.core.trend import Seen, next_after
from tests.unit.strategies import bounded

WORLDS = 300
cases = st.builds(Case, st.floats(0.1, 1), st.floats(-1, 1), st.floats(0, 1))


@st.composite
def spreads(draw: st.DrawFn) -> Spread:
    drawn = draw(st.lists(cases, min_size=1, max_size=6))
    whole = sum(case.weight for case in drawn)
    weighed = [replace(case, weight=case.weight / whole) for case in drawn]
    return Spread(weighed, draw(st.floats(0, 1)))


# Quantiles.


@pytest.mark.parametrize(
    ("share", "degrees", "value"),
    [
        (0.9, 1, 3.0777),
        (0.9, 2, 1.8856),
        (0.9, 3, 1.6377),
        (0.9, 10, 1.3722),
        (0.95, 3, 2.3534),
        (0.95, 30, 1.6973),
        (0.9, float("inf"), 1.2816),
    ],
)
def test_t_has_the_quantiles_of_the_tables(share: float, degrees: float, value: float) -> None:
    assert t_quantile(share, degrees) == pytest.approx(value, abs=0.002)
    assert t_quantile(1 - share, degrees) == pytest.approx(-value, abs=0.002)


@bounded
@given(spreads())
def test_a_higher_share_is_a_higher_figure(spread: Spread) -> None:
    factors = [spread.factor(share) for share in (0.1, 0.5, 0.75, 0.9)]
    assert all(
        lower <= higher or lower == pytest.approx(higher, rel=1e-9)
        for lower, higher in pairwise(factors)
    )


def test_one_normal_case_has_its_quantiles() -> None:
    spread = Spread([Case(1.0, 0.1, 0.3)], known=0.4)
    assert spread.factor(0.5) == pytest.approx(exp(0.1))
    assert spread.factor(0.9) == pytest.approx(exp(0.1 + 1.2816 * 0.5), rel=1e-4)
    assert spread.deviation == pytest.approx(0.5, rel=1e-4)
    assert spread.wider(0.75).deviation == pytest.approx(1.0, rel=1e-4)
    assert Spread().factor(0.9) == 1.0


def test_of_two_cases_that_differ_the_worse_is_above_the_upper_tenth() -> None:
    spread = Spread([Case(0.8, 0.0, 0.01), Case(0.2, 2.0, 0.01)])
    assert spread.factor(0.5) == pytest.approx(1.0, abs=0.01)
    assert spread.factor(0.9) == pytest.approx(exp(2.0), rel=0.01)


# What comes next.


def nights(*logs: float, chance: float = 0.0) -> list[Seen]:
    return [Seen(log, chance) for log in logs]


@bounded
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(-3, 3))
def test_what_all_have_in_common_is_carried_over(logs: list[float], more: float) -> None:
    spread, moved = next_after(nights(*logs), 0.0), next_after(nights(*(x + more for x in logs)), 0)
    assert moved.factor(0.5) == pytest.approx(spread.factor(0.5) * exp(more), rel=1e-3)
    assert moved.deviation == pytest.approx(spread.deviation, abs=1e-3)


def test_nights_that_differ_more_spread_more() -> None:
    calm, wild = (next_after(nights(0.0, -x, x, 0.0), 0.0) for x in (0.02, 0.2))
    assert wild.deviation > 3 * calm.deviation


def test_one_run_is_believed_less_than_three_alike() -> None:
    found = [next_after(nights(*[0.0] * n), 0.0) for n in (1, 2, 3)]
    assert found[0].factor(0.9) > found[1].factor(0.9) > found[2].factor(0.9) > 1.0


def test_what_grows_steadily_is_expected_to_grow_on() -> None:
    logs = [0.03 * night for night in range(8)]
    assert next_after(nights(*logs), 0.0).factor(0.5) == pytest.approx(exp(0.24), rel=0.01)
    assert next_after(nights(*reversed(logs)), 0.0).factor(0.5) < 1.0


def test_what_chance_explains_is_no_noise() -> None:
    logs = (0.1, -0.1, 0.1, -0.1, 0.0)
    by_chance = next_after(nights(*logs, chance=0.01), 0.0)
    assert by_chance.deviation < 0.8 * next_after(nights(*logs), 0.0).deviation
    assert next_after(nights(*logs, chance=0.01), 0.01).deviation > by_chance.deviation


@pytest.mark.parametrize("growth", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_nine_of_ten_nights_stay_below_whatever_noise_and_growth(
    noise: float, growth: float
) -> None:
    below = count = 0
    for seed in range(WORLDS):
        dice = random.Random(seed)
        logs = [dice.gauss(growth * night, noise) for night in range(dice.randint(3, 13))]
        below += logs[-1] <= log(next_after(nights(*logs[:-1]), 0.0).factor(0.9))
        count += 1
    assert 0.84 <= below / count <= 0.96
