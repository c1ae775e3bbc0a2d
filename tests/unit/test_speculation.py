"""Which candidate is chosen: the fastest that is exact, if it gains enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.speculation import (
    LEAST_GAIN,
    NONE,
    Agreement,
    Expectation,
    Trial,
    choose,
    is_worth_reloading,
    tokens_a_step,
)
from tests.unit.strategies import bounded

EXACT = Agreement(same=10)


def trial(name: str, *ratios: float, agreement: Agreement = EXACT) -> Trial:
    return Trial({"method": name}, ratios, agreement=agreement)


def test_the_fastest_is_chosen() -> None:
    assert choose([trial("a", 1.1), trial("b", 1.3), trial("c", 0.7)]).settings["method"] == "b"


def test_an_outlier_makes_nothing_fast() -> None:
    """A machine that others use may stop for a second: the median of pairs does not."""
    lucky = trial("lucky", 0.9, 9.0, 0.9)
    assert choose([lucky, trial("steady", 1.1, 1.1, 1.1)]).settings["method"] == "steady"


@pytest.mark.parametrize(
    ("agreement", "exact"),
    [
        (Agreement(same=10), True),
        (Agreement(same=1, near_ties=9), True),
        (Agreement(same=9, differing=1), False),
        (Agreement(same=9, untold=1), True),
        (Agreement(same=8, untold=2), False),
        (Agreement(same=2, near_ties=8, unjudged=4), True),
        (Agreement(sampled=10), True),
    ],
)
def test_what_counts_as_exact(agreement: Agreement, exact: bool) -> None:
    assert agreement.exact is exact
    chosen = choose([trial("fast", 2.0, agreement=agreement)])
    assert chosen.settings["method"] == ("fast" if exact else "none")


def test_what_could_not_be_measured_is_not_chosen_and_said() -> None:
    chosen = choose([Trial({"method": "draft_model"}, problem="out of memory")])
    assert chosen.settings == NONE
    assert "1 could not be measured" in chosen.why


def test_too_small_a_gain_is_not_taken() -> None:
    chosen = choose([trial("ngram", 1 + LEAST_GAIN / 2)])
    assert chosen.settings == NONE
    assert "ngram" in chosen.why


def test_without_candidates_there_is_none() -> None:
    assert choose([]).settings == NONE


def test_what_a_row_gets_in_a_step() -> None:
    assert tokens_a_step(100, 0) == 1
    assert tokens_a_step(100, 75) == 4
    assert tokens_a_step(0, 0) is None
    assert tokens_a_step(10, 10) is None


@pytest.mark.parametrize(
    ("gain", "left", "load", "worth"),
    [
        (0.8, 1000, 60, True),
        (0.8, 500, 60, False),
        (0.995, 10**9, 60, False),
        (1.2, 10**9, 0, False),
    ],
)
def test_a_reload_has_to_pay_twice(gain: float, left: float, load: float, worth: bool) -> None:
    assert is_worth_reloading(gain, left, load) is worth


@bounded
@given(st.floats(0.5, 3), st.floats(1, 8), st.integers(1, 10**6), st.floats(0, 0.9))
def test_expectations_follow_what_is_accepted(
    gain: float, steps: float, decoded: int, share: float
) -> None:
    expected = Expectation(gain, steps)
    now, fewer = (expected.gain_now(decoded, round(decoded * s)) for s in (share, share / 2))
    if now is not None and fewer is not None:
        assert fewer <= now
    assert expected.gain_now(0, 0) is None


gains = st.floats(0.01, 10)
agreements = st.builds(
    Agreement, same=st.integers(0, 50), near_ties=st.integers(0, 5), differing=st.integers(0, 1)
)


@bounded
@given(st.lists(st.tuples(gains, agreements), max_size=8))
def test_never_worse_than_none_on_the_sample(found: list[tuple[float, Agreement]]) -> None:
    trials = [trial(str(n), gain, agreement=how) for n, (gain, how) in enumerate(found)]
    chosen = choose(trials).settings
    if chosen != NONE:
        best = trials[int(chosen["method"])]
        assert best.gain >= 1 + LEAST_GAIN
        assert best.agreement.exact
        assert all(one.gain <= best.gain for one in trials if one.agreement.exact)
    else:
        assert all(one.gain < 1 + LEAST_GAIN for one in trials if one.agreement.exact)
