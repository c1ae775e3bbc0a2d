"""How a straggler's rows are cut, and that none of them gets lost on the way out and back."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.arranging import arranged
from pipeline.core import layout
from pipeline.core.checkpoint import Attempt, Checkpoint, Progress, fold, in_order
from pipeline.core.lease import Lease
from pipeline.core.poison import Strike
from pipeline.core.portion import (
    Claims,
    Portion,
    PortionName,
    claims_by_shard,
    portion_sizes,
    rows_to_spare,
)
from pipeline.core.rows import FinishedRow
from pipeline.core.shards import Shard
from pipeline.held import HeldShard
from pipeline.lent import AwayPortion, Lent
from tests.simulation.memory_rows import MemoryShard, Row
from tests.unit.strategies import attempts, bounded

sizes = st.integers(0, 100_000)


@bounded
@given(sizes, sizes, st.integers(1, 50), st.integers(1, 2_000))
def test_portions_are_worth_the_requests_and_leave_the_owner_its_share(
    unbegun: int, in_line: int, askers: int, window: int
) -> None:
    cut = portion_sizes(unbegun, in_line, askers, window)
    assert sum(cut) <= unbegun
    assert len(cut) <= 2 * askers
    assert all(size >= window for size in cut)
    assert bool(cut) == bool(rows_to_spare(unbegun, window))
    kept = unbegun + in_line - sum(cut)
    share = (unbegun + in_line) // (askers + 1)
    # But for one window that an asker gets for certain.
    assert kept >= min(share, unbegun + in_line - window, in_line + unbegun)


@bounded
@given(st.integers(40, 4_000), st.integers(1, 7))
def test_owner_and_askers_have_equally_much(rows: int, askers: int) -> None:
    assume(rows >= 40 * askers)
    cut = portion_sizes(rows, 0, askers, 4)
    assert abs(rows - sum(cut) - rows / (askers + 1)) <= 1
    assert max(cut) - min(cut) <= 1


def test_a_listing_of_leases_tells_who_has_what() -> None:
    keys = [
        layout.lease_key("r", 3, 1),
        layout.lease_key("r", 3, 2),
        layout.portion_key("r", 3, 1, 1),
        layout.take_key("r", 3, 1, 1, 1),
        layout.take_key("r", 3, 1, 1, 2),
        layout.portion_key("r", 3, 2, 1),
        layout.ask_key("r", 3, "w-a", 1),
        layout.lease_key("r", 4, 1),
        "runs/r/leases/00003/notes.txt",
    ]
    assert claims_by_shard(keys) == {
        3: Claims(2, {PortionName(1, 1): 2, PortionName(2, 1): 0}, {("w-a", 1)}),
        4: Claims(1),
    }


def held(rows: int, before: Progress | None = None, lent: Lent | None = None) -> HeldShard:
    return HeldShard(
        Shard(1, "file", "etag", 1, (0,), 0, rows, 1),
        Lease(1, 2, "owner", "nonce", "now"),
        MemoryShard([Row(f"row {n}") for n in range(rows)]),
        before or Progress(),
        0.0,
        lent or Lent(),
    )


@bounded
@given(st.data())
def test_rows_are_withdrawn_once_and_only_such_as_nobody_began(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 60))
    some = st.sets(st.integers(0, rows - 1), max_size=10)
    done, begun, struck, away = (data.draw(some) for _ in range(4))
    away -= done
    before = Progress(
        finished={row: FinishedRow(row, completion="x") for row in done},
        in_flight=dict.fromkeys(begun - done, (1,)),
        strikes=(Strike(1, 0, tuple(sorted(struck)), 1, "died"),) if struck else (),
    )
    lent = Lent(away={PortionName(1, 1): AwayPortion(PortionName(1, 1), set(away))})
    shard = held(rows, before, lent)
    if data.draw(st.booleans()):
        shard.take_arrangement(arranged(shard, shard.unarranged.popleft()))
    free = set(range(rows)) - done - begun - struck - away
    withdrawn: list[int] = []
    while batch := shard.withdraw(data.draw(st.integers(1, 20))):
        assert shard.unbegun <= rows
        withdrawn += batch
    assert sorted(withdrawn) == sorted(free)
    if shard.unarranged:
        shard.take_arrangement(arranged(shard, shard.unarranged.popleft()))
    left = set(shard.unprepared) | shard.suspects
    assert left == set(range(rows)) - done - away - free


def test_what_comes_home_is_gone_on_with_and_counted_elsewhere() -> None:
    shard = held(6)
    shard.take_arrangement(arranged(shard, shard.unarranged.popleft()))
    rows = shard.withdraw(4)
    shard.collect(FinishedRow(rows[0], completion="x", prompt_tokens=3, completion_tokens=9))
    alone = [Strike(2, nth, (rows[1],), 0, "died") for nth in range(2)]
    other = Strike(2, 2, (rows[2],), 3, "died")
    home = Progress(in_flight={rows[3]: (7, 8)}, strikes=(*alone, other))
    assert shard.take_home(rows[1:], home) == 1
    assert (shard.rows_done, shard.tokens.input, len(shard.unsaved)) == (1, 0, 1)
    assert (shard.finished[rows[1]].error or "").startswith("quarantined")
    assert shard.suspects == {rows[2]}
    assert shard.so_far == {rows[3]: (7, 8)}
    assert set(shard.unprepared) == set(range(6)) - {*rows[:3]}
    shard.strike([rows[3]], 0, "died")
    assert shard.strikes[-1].nth == 0, "an owner numbers the deaths that it saw itself"


@bounded
@given(attempts())
def test_an_owner_goes_on_from_what_its_helpers_saved(attempt: Attempt) -> None:
    def point(seq: int, portion: int, take: int, tokens: tuple[int, ...]) -> Checkpoint:
        made = Attempt.from_json(
            attempt.to_json() | {"epoch": 2, "portion": {"number": portion, "take": take}}
        )
        return Checkpoint(1, 2, seq, "n", (), {5: tokens}, made)

    owner = point(1, 0, 0, (1, 2, 3))
    helpers = [point(9, 1, 1, (1,)), point(1, 1, 2, (1, 2))]
    progress = fold(in_order([owner, *helpers]))
    assert progress.in_flight == {5: (1, 2, 3)}
    assert [(a.portion, a.take) for a in progress.attempts] == [(1, 1), (1, 2), (0, 0)]
    away = AwayPortion(PortionName(2, 1), {5})
    assert away.learn(helpers) == []
    assert away.progress.in_flight == {5: (1, 2)}


def test_a_portion_names_its_attempt_and_its_requests() -> None:
    portion = Portion(1, 2, 3, (4, 5), "owner", "nonce")
    part = HeldShard(
        held(9).shard, held(9).lease, held(9).rows, Progress(), 0.0, portion=portion, take=2
    )
    assert part.request_id(4) == "1-2-3-2-4"
    assert held(9).request_id(4) == "1-2-4"
    assert (part.row_count, part.unbegun) == (2, 0)
    assert list(map(list, part.unarranged)) == [[4, 5]]
