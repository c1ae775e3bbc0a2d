"""Halving suspects: every deadly row is condemned, no other one, in few deaths."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.poison import (
    ALONE_STRIKES,
    Strike,
    is_condemned,
    next_trial,
    strike_from_json,
    verdict,
)
from tests.unit.strategies import bounded

rows = st.integers(0, 299)


def judge(window: set[int], deadly: set[int]) -> tuple[set[int], list[Strike], int]:
    """The condemned, the strikes, and the passes, when everything ran and some rows kill."""
    strikes = [Strike(1, 0, tuple(sorted(window)), 0, "boom")] if deadly else []
    suspects = set(window) if deadly else set()
    condemned: set[int] = set()
    passes = 0
    while suspects:
        group = set(next_trial(suspects, strikes))
        assert group, "suspects and no trial"
        assert group <= suspects
        if group & deadly:
            strikes.append(Strike(1, len(strikes), tuple(sorted(group)), 0, "boom"))
            condemned |= {row for row in group if is_condemned(row, strikes)}
            suspects -= condemned
        else:
            passes += 1
            suspects -= group
    return condemned, strikes, passes


@bounded
@given(window=st.sets(rows, min_size=1, max_size=256), data=st.data())
def test_the_deadly_and_no_other_are_condemned(window: set[int], data: st.DataObject) -> None:
    deadly = data.draw(st.sets(st.sampled_from(sorted(window)), max_size=5))
    condemned, strikes, _ = judge(window, deadly)
    assert condemned == deadly
    most = (math.ceil(math.log2(len(window))) + ALONE_STRIKES) * len(deadly)
    assert len(strikes) <= most + 1


def test_one_in_a_full_window_takes_ten_deaths() -> None:
    _, strikes, passes = judge(set(range(256)), {0})
    assert (len(strikes), passes) == (10, 8)


def test_a_death_with_others_beside_it_condemns_nobody() -> None:
    strikes = [Strike(1, nth, (3,), 5, "boom") for nth in range(9)]
    assert not is_condemned(3, strikes)


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
