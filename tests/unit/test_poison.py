"""Halving suspects: every deadly row is condemned, no other one, in few deaths."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.poison import (
    ALONE_STRIKES,
    Strike,
    condemned,
    next_trial,
    strike_from_json,
    suspected,
    verdict,
)
from tests.unit.strategies import bounded

rows = st.integers(0, 299)


def judge(window: set[int], deadly: set[int]) -> tuple[set[int], list[Strike], int]:
    """The condemned, the strikes, and the trials passed, in a shard of one window of rows."""
    strikes: list[Strike] = []
    passes = 0
    unfinished = set(window)
    while unfinished := unfinished - condemned(strikes):
        suspects = suspected(strikes) & unfinished
        group = set(next_trial(suspects, strikes)) if suspects else unfinished
        assert group, "suspects and no trial"
        assert group <= unfinished
        if group & deadly:
            strikes.append(Strike(1, len(strikes), tuple(sorted(group)), 0, "boom"))
        else:
            passes += bool(suspects)
            unfinished -= group
    return set(condemned(strikes)), strikes, passes


@bounded
@given(window=st.sets(rows, min_size=1, max_size=256), data=st.data())
def test_the_deadly_and_no_other_are_condemned(window: set[int], data: st.DataObject) -> None:
    deadly = data.draw(st.sets(st.sampled_from(sorted(window)), max_size=5))
    found, strikes, _ = judge(window, deadly)
    assert found == deadly
    each = math.ceil(math.log2(len(window))) + ALONE_STRIKES
    assert len(strikes) <= each * len(deadly)


@pytest.mark.parametrize(("deadly", "deaths", "trials"), [(0, 10, 0), (255, 3, 8), (100, 7, 3)])
def test_one_in_a_full_window_is_found_in_ten_engines(
    deadly: int, deaths: int, trials: int
) -> None:
    _, strikes, passes = judge(set(range(256)), {deadly})
    assert (len(strikes), passes) == (deaths, trials)


def test_a_death_with_others_beside_it_condemns_nobody() -> None:
    strikes = [Strike(1, nth, (3,), 5, "boom") for nth in range(9)]
    assert condemned(strikes) == frozenset()


def test_deaths_that_a_condemned_row_explains_clear_the_others() -> None:
    strikes = [Strike(1, 0, (3, 4), 0, "a"), Strike(1, 1, (3,), 0, "b"), Strike(1, 2, (3,), 0, "c")]
    assert suspected(strikes) == frozenset()
    assert suspected(strikes[:2]) == frozenset({3, 4})


def test_rows_without_strikes_are_no_suspects() -> None:
    assert next_trial({1, 2}, []) == ()


def test_the_verdict_tells_the_evidence() -> None:
    strikes = [
        Strike(1, 0, (3, 4), 0, "first"),
        Strike(1, 1, (3,), 0, "second"),
        Strike(2, 0, (3,), 0, "last"),
        Strike(2, 1, (4,), 0, "another's"),
    ]
    said = verdict(3, strikes)
    assert "died 3 times with this row in it, 2 times with nothing beside it" in said
    assert said.endswith("its last words: last")


@given(st.builds(Strike, rows, rows, st.lists(rows).map(tuple), rows, st.text()))
def test_a_strike_survives_json(strike: Strike) -> None:
    document = {
        "epoch": strike.epoch,
        "nth": strike.nth,
        "rows": list(strike.rows),
        "beside": strike.beside,
        "words": strike.words,
    }
    assert strike_from_json(document) == strike
