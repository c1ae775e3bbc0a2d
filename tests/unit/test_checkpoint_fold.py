"""What a successor makes of the checkpoints it finds."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given

from pipeline.core.checkpoint import Attempt, Checkpoint, Progress, fold, lost_since
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice
from pipeline.core.rows import FinishedRow
from pipeline.core.session import ShardAccount
from pipeline.core.spans import Span
from tests.unit.strategies import attempts, bounded, counts, histories, micros


def folded(points: list[Checkpoint]) -> Progress:
    return fold(sorted(points, key=lambda p: (p.epoch, p.seq)))


@bounded
@given(histories())
def test_checkpoints_in_another_order_are_refused(points: list[Checkpoint]) -> None:
    backwards = sorted(points, key=lambda p: (p.epoch, p.seq), reverse=True)
    if len({(point.epoch, point.seq) for point in points}) > 1:
        with pytest.raises(ValueError, match="comes after"):
            fold(backwards)


@bounded
@given(histories())
def test_the_first_finished_row_counts(points: list[Checkpoint]) -> None:
    progress = folded(points)
    finished = {row: progress.finished[row] for row in progress.finished}
    for index in range(6):
        rows = [
            row
            for point in sorted(points, key=lambda p: (p.epoch, p.seq))
            for row in point.finished
            if row.row == index
        ]
        assert finished.get(index) == (rows[0] if rows else None)


@bounded
@given(histories())
def test_the_newest_save_of_an_unfinished_row_counts(points: list[Checkpoint]) -> None:
    progress = folded(points)
    assert not set(progress.in_flight) & set(progress.finished)
    for index in range(6):
        saves = [
            point.in_flight[index]
            for point in sorted(points, key=lambda p: (p.epoch, p.seq))
            if index in point.in_flight
        ]
        if index not in progress.finished:
            assert progress.in_flight.get(index) == (saves[-1] if saves else None)


@bounded
@given(histories())
def test_an_attempts_account_is_that_of_its_last_checkpoint(points: list[Checkpoint]) -> None:
    last: dict[int, Checkpoint] = {}
    for point in sorted(points, key=lambda p: (p.epoch, p.seq)):
        last[point.epoch] = point
    assert folded(points).attempts == tuple(last[epoch].attempt for epoch in sorted(last))


@bounded
@given(histories())
def test_folding_twice_changes_nothing(points: list[Checkpoint]) -> None:
    assert folded([*points, *points]) == folded(points)


def test_nothing_saved_is_no_progress() -> None:
    assert fold([]) == Progress()


@bounded
@given(attempts())
def test_a_row_finished_later_hides_what_was_saved_of_it(attempt: Attempt) -> None:
    first, second = replace(attempt, epoch=1), replace(attempt, epoch=2)
    begun = Checkpoint(0, 1, 1, "n", (), {4: (1, 2)}, first)
    done = Checkpoint(0, 1, 2, "n", (FinishedRow(4, completion="x"),), {5: (3,)}, first)
    begun_again = Checkpoint(0, 2, 1, "m", (), {4: (1,)}, second)
    progress = fold([begun, done, begun_again])
    assert set(progress.finished) == {4}
    assert progress.in_flight == {5: (3,)}


@bounded
@given(attempts())
def test_an_attempt_survives_json(attempt: Attempt) -> None:
    assert Attempt.from_json(attempt.to_json()) == attempt


@bounded
@given(attempts(), counts, micros)
def test_what_a_dead_workers_beat_shows_beyond_its_checkpoint_is_waste(
    attempt: Attempt, decoded: int, useful: int
) -> None:
    lost = lost_since(attempt, decoded, {attempt.price: useful})
    before, after = attempt.spans[-1].buckets, lost.spans[-1].buckets
    assert after.useful + after.wasted == max(useful, before.useful + before.wasted)
    assert replace(after, wasted=0) == replace(before, wasted=0)
    assert lost.tokens.output + lost.tokens.wasted == max(decoded, attempt.tokens.output)
    assert lost.tokens.output == attempt.tokens.output


@bounded
@given(attempts())
def test_a_beat_that_says_nothing_new_adds_nothing(attempt: Attempt) -> None:
    known = replace(
        attempt, buckets=Buckets(useful=5), earlier=(), tokens=replace(attempt.tokens, wasted=0)
    )
    assert lost_since(known, known.tokens.output, {known.price: 5}) == known


def test_each_second_of_a_dead_worker_keeps_the_price_it_had() -> None:
    """The price changed after its last checkpoint, and its last beat tells of both sides of it."""
    cheap, dear = NodePrice(Decimal(1), "a"), NodePrice(Decimal(2), "b")
    saved = Attempt("w", 1, Node(), cheap, "s", "e", "lost", Buckets(useful=5, idle=1))
    beat = ShardAccount(1, useful_micros=11, earlier=((cheap, 8),))
    lost = lost_since(saved, 0, beat.useful_by_price(dear))
    assert lost.spans == (
        Span(cheap, Buckets(useful=5, wasted=3, idle=1)),
        Span(dear, Buckets(wasted=3)),
    )
    never_saved = replace(saved, price=dear, buckets=Buckets())
    assert lost_since(never_saved, 0, beat.useful_by_price(dear)).spans == (
        Span(cheap, Buckets(wasted=8)),
        Span(dear, Buckets(wasted=3)),
    )


def test_an_account_that_is_closed_keeps_its_price_when_a_session_gets_another() -> None:
    cheap, dear = NodePrice(Decimal(1), "a"), NodePrice(Decimal(2), "b")
    closed = ShardAccount(1, useful_micros=7).repriced(cheap)
    assert closed.useful_by_price(dear) == {cheap: 7, dear: 0}
    assert closed.repriced(dear).useful_by_price(cheap) == {cheap: 7, dear: 0}
    assert ShardAccount.from_json(json.loads(json.dumps(closed.to_json()))) == closed


def progress_of(*ends: str, rows: int = 0, unfed: frozenset[int] = frozenset()) -> Progress:
    made = tuple(
        Attempt("w", epoch, Node(), UNKNOWN_PRICE, "", "", end, rows=rows)  # type: ignore[arg-type]
        for epoch, end in enumerate(ends, 1)
    )
    return Progress(attempts=made, unfed=unfed)


def test_an_end_without_a_word_is_suspicious_unless_its_worker_only_loaded() -> None:
    assert not progress_of().ended_silently
    assert progress_of("lost").ended_silently
    assert not progress_of("lost", rows=1).ended_silently
    assert not progress_of("lost", "drained").ended_silently
    assert not progress_of("lost", unfed=frozenset({1})).ended_silently
    assert not progress_of("drained", "lost", unfed=frozenset({2})).ended_silently
    # Rows may have killed the second before a beat could tell that it worked.
    assert progress_of("lost", "lost", unfed=frozenset({2})).ended_silently
