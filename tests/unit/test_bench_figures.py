"""What is written down of a measurement: figures, targets, ratios, pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figure import (
    Failure,
    FamilyResult,
    Figure,
    Target,
    ratios,
    record_from_json,
    spread,
)
from benchmarks.page import Circumstances, known_reasons, markdown, summary, value_in_words

_HERE = Circumstances("2026-11-20", "make bench", "two cores", "default", 0.1, 2.0)

_floats = st.floats(min_value=1e-6, max_value=1e6)


@given(
    value=_floats,
    low=st.none() | _floats,
    samples=st.integers(1, 20),
    target=st.none() | st.builds(Target, _floats, st.booleans()),
)
def test_a_figure_survives_json(
    value: float, low: float | None, samples: int, target: Target | None
) -> None:
    figure = Figure("a.b", "name", value, "how", "s", low, None, samples, target)
    assert record_from_json(json.loads(json.dumps(figure.to_json()))) == figure


def test_a_failure_survives_json() -> None:
    failure = Failure("peers.ray_data", "no such package")
    assert record_from_json(json.loads(json.dumps(failure.to_json()))) == failure
    result = FamilyResult("peers", 1.5, (failure, Figure("a", "b", 1.0, "c")))
    assert FamilyResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(TypeError):
        record_from_json({"key": "a", "colour": "red"})


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(0.97), 0.97, True),
        (Target(0.97), 0.96999, False),
        (Target(60.0, at_least=False), 60.0, True),
        (Target(60.0, at_least=False), 60.001, False),
    ],
)
def test_a_target_is_held_against_the_unrounded_value(
    target: Target, value: float, met: bool
) -> None:
    assert target.met(value) is met
    assert Figure("a", "b", value, "c", target=target).missed is not met


@given(pairs=st.lists(st.tuples(_floats, _floats), min_size=1))
def test_ratios_are_taken_pair_by_pair(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    found = ratios(ours, theirs)
    assert [r * b for r, b in zip(found, theirs, strict=True)] == pytest.approx(ours)
    figure = spread("a", "b", found, "c")
    assert figure.low is not None and figure.high is not None
    assert figure.low <= figure.value <= figure.high
    assert figure.samples == len(pairs)


def test_no_pairs_and_lost_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        ratios([], [])
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_values_are_told_with_their_spread_only_where_there_is_one() -> None:
    assert value_in_words(spread("a", "b", [0.9, 1.0, 1.2], "c")) == "1.000 (0.900 to 1.200)"
    assert value_in_words(spread("a", "b", [0.98], "c")) == "0.980"
    assert value_in_words(Figure("a", "b", 31.25, "c", "s")) == "31.2 s"
    assert value_in_words(Figure("a", "b", 7030.4, "c", "tokens/s")) == "7,030 tokens/s"


def test_the_page_shows_misses_with_their_reasons_and_what_was_not_measured() -> None:
    results = [
        FamilyResult(
            "whole-job",
            60.0,
            (
                Figure("whole-job.steady", "steady", 0.98, "how", target=Target(0.99)),
                Figure("whole-job.end", "end", 0.975, "how", target=Target(0.97)),
                Figure("whole-job.odd", "odd | one", 0.5, "how", target=Target(0.97)),
            ),
        ),
        FamilyResult("peers", 1.0, (Failure("peers.ray_data", "line one\nline two"),)),
    ]
    reasons = {"whole-job.steady": "tokenizing costs 1%"}
    page = markdown(_HERE, results, {"peers": "Others"}, reasons)
    lines = page.splitlines()
    [steady] = [line for line in lines if line.startswith("| steady")]
    assert "MISSED" in steady and "tokenizing costs 1%" in steady and "at least 0.99" in steady
    [end] = [line for line in lines if line.startswith("| end")]
    assert "| met |" in end and "Missed" not in end
    [odd] = [line for line in lines if line.startswith("| odd")]
    assert "no reason is known yet" in odd and "odd \\| one" in odd
    assert "## Others" in lines
    assert "**Not measured:** `peers.ray_data`: line one line two" in lines
    assert summary(results) == "1 of 3 targets met, 2 missed, 1 not measured."
    assert summary(results) in lines


def test_the_reasons_at_hand_can_be_read(tmp_path: Path) -> None:
    assert all(why.strip() for why in known_reasons().values())
    path = tmp_path / "reasons.toml"
    path.write_text('["a.b"]\nwhy = "because"\n')
    assert known_reasons(path) == {"a.b": "because"}
