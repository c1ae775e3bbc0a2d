"""What the readers make of traces that were made up."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.simulation.traces import (
    Lifetime,
    SpotTrace,
    lives_of_counts,
    read_columns,
    read_counts,
    read_events,
)

TRACE = SpotTrace(
    "made up", (Lifetime(0, 1_800), Lifetime(0, 3_600, lost=False), Lifetime(1_800, 3_600)), 3_600
)


def test_events_become_lives_and_a_name_that_comes_back_is_another_node(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text("60000,add,a\n60000,add,b\n90000,remove,a\n120000,add,a\n180000,remove,b\n")
    trace = read_events(path)
    assert trace.name == "fleet"
    assert trace.lives == (Lifetime(0, 30), Lifetime(0, 120), Lifetime(60, 120, lost=False))
    assert (trace.end, trace.losses, trace.node_seconds, trace.most_at_once) == (120, 2, 210, 2)


@pytest.mark.parametrize("events", ["0,add,a\n1,add,a\n", "0,add,a\n1,remove,b\n"])
def test_events_that_make_no_sense_are_refused(tmp_path: Path, events: str) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text(events)
    with pytest.raises(ValueError, match="makes no sense"):
        read_events(path)


def test_counts_are_read_as_observed_last(tmp_path: Path) -> None:
    path = tmp_path / "counts.txt"
    path.write_text(
        "2021-12-10, 23:59:00, 2\n2021-12-11, 00:01:00, 9\n2021-12-11, 00:00:00, 1\n"
        "2021-12-11, 00:02:00, 3\n2021-12-11, 00:03:00, 3\n"
    )
    trace = read_counts(path)
    assert trace.lives == (
        Lifetime(0, 60),
        Lifetime(0, 240, lost=False),
        Lifetime(180, 240, lost=False),
        Lifetime(180, 240, lost=False),
    )
    assert trace.end == 240


def test_of_counts_a_loss_strikes_by_lot_and_always_the_same() -> None:
    samples = [(0.0, 3), (10.0, 3), (20.0, 1), (30.0, 2)]
    lives = lives_of_counts(samples, Random(1))
    assert lives == lives_of_counts(samples, Random(1))
    assert lives == [
        Lifetime(0, 20),
        Lifetime(0, 20),
        Lifetime(0, 30, lost=False),
        Lifetime(30, 30, lost=False),
    ]


def test_columns_are_counts_of_one_clock(tmp_path: Path) -> None:
    path = tmp_path / "zones.csv"
    path.write_text(
        "at,status,west,east\n2025-10-03T17:10:00-07:00,success,1,0\n"
        "2025-10-03T17:20:00-07:00,success,0,1\n2025-10-03T17:30:00-07:00,success,,0\n"
    )
    trace = read_columns(path, "both", ("west", "east"))
    assert trace.lives == (Lifetime(0, 600), Lifetime(600, 1_200))
    assert read_columns(path, "one", ("west",)).lives == (Lifetime(0, 600),)


def test_a_trace_can_be_stretched_to_a_rate() -> None:
    assert TRACE.losses_per_node_hour == 1.0
    stretched = TRACE.at_rate(0.5)
    assert stretched.losses_per_node_hour == 0.5
    assert (stretched.losses, stretched.end) == (2, 7_200)


def test_a_piece_of_a_trace_has_whoever_was_up_then() -> None:
    piece = TRACE.between(900, 2_700)
    assert piece.lives == (
        Lifetime(0, 900),
        Lifetime(0, 1_800, lost=False),
        Lifetime(900, 1_800, lost=False),
    )
    assert piece.end == 1_800
    assert TRACE.every(2).lives == (TRACE.lives[0], TRACE.lives[2])
