"""Goodput of real workers on a piece of a recorded fleet. `make goodput` replays all of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.simulation.outcome import Outcome
from tests.simulation.replay import TARGET_RATE, traces_folder
from tests.simulation.replayed import Replay
from tests.simulation.traces import read_events

P3 = (traces_folder() or Path()) / "bamboo/traces/p3-trace.csv"
pytestmark = pytest.mark.skipif(not P3.is_file(), reason="no recorded traces on this machine")


@cache
def replayed(notice_seconds: float | None) -> Outcome:
    """A third of the p3 fleet for one and a half hours, at 0.6 losses per node-hour."""
    piece = read_events(P3).between(3_600, 9_000).every(3).at_rate(TARGET_RATE)
    assert 8 <= piece.most_at_once <= 16
    assert piece.losses >= 5
    return Replay(piece, notice_seconds).run()


def test_without_notice_little_but_the_cold_starts_is_lost() -> None:
    outcome = replayed(None)
    assert outcome.token_goodput >= 0.999
    assert outcome.time_goodput / outcome.ceiling >= 0.9985
    assert outcome.left_by_themselves == 0


@pytest.mark.parametrize("notice_seconds", [30.0, 120.0])
def test_with_notice_every_node_saves_what_it_decoded(notice_seconds: float) -> None:
    outcome = replayed(notice_seconds)
    # What is lost all the same was not saved by nodes that are cut off with the piece.
    assert outcome.token_goodput >= 0.9993
    assert outcome.token_goodput > replayed(None).token_goodput
    assert outcome.time_goodput / outcome.ceiling >= 0.998
    assert outcome.left_by_themselves == outcome.trace.losses


def test_every_second_paid_for_is_somewhere() -> None:
    for notice_seconds in (None, 30.0, 120.0):
        outcome = replayed(notice_seconds)
        shares = outcome.shares()
        assert all(share >= 0 for share in shares.values()), shares
        assert outcome.time_goodput + sum(shares.values()) == pytest.approx(1)
        assert outcome.shares()["cold start"] == pytest.approx(1 - outcome.ceiling, rel=0.01)
