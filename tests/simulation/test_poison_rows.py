"""Rows that kill or stop the engine: found, quarantined with their evidence, neighbours kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.core.errors import EngineDied, SpotmillError
from pipeline.core.rows import FinishedRow
from pipeline.engines.scripted import DEADLY, HANGING, REJECTED
from pipeline.worker import WorkerReport
from tests.simulation.fakes import NoticeAt
from tests.simulation.memory_rows import Row
from tests.simulation.moments import failures_of
from tests.simulation.watched import Killed, killed_at
from tests.simulation.world import EXACT, Pace, Rows, World, undisturbed_answers

LONG = "answers of more than one token: "


def shard_with(marks: dict[int, str], rows: int = 8) -> Rows:
    return {0: [Row(f"{LONG}{row}{marks.get(row, '')}", EXACT) for row in range(rows)]}


def harmless(rows: Rows, bad: Sequence[int]) -> dict[int, FinishedRow]:
    """What the neighbours are to get: their answers in a run in which the bad rows are empty."""
    cleaned = {0: [Row("") if n in bad else row for n, row in enumerate(rows[0])]}
    return {row.row: row for row in undisturbed_answers(cleaned)[0] if row.row not in bad}


def until_published(world: World, own_process: bool, limit: int = 12) -> list[object]:
    world.own_process = own_process
    endings: list[object] = []
    while len(world.ledger.published()) < len(world.shards):
        assert len(endings) < limit, endings
        endings.append(world.work())
    return endings


def check(world: World, rows: Rows, bad: Sequence[int]) -> None:
    answers = {row.row: row for row in world.answers()[0]}
    assert {n: row for n, row in answers.items() if n not in bad} == harmless(rows, bad)
    for n in bad:
        error = answers[n].error
        assert error is not None
        assert error.startswith("quarantined: the engine died")
    world.finish()
    assert world.problems() == []


@pytest.mark.parametrize("mark", [DEADLY, HANGING])
@pytest.mark.parametrize("bad", [(0,), (7,), (3, 4), (0, 2, 5), tuple(range(8))], ids=str)
def test_one_session_finds_every_poison_row(mark: str, bad: tuple[int, ...]) -> None:
    rows = shard_with(dict.fromkeys(bad, mark))
    world = World(rows, Pace(window=8))
    endings = until_published(world, own_process=True)
    assert [type(ending) for ending in endings] == [WorkerReport]
    check(world, rows, bad)


def test_a_session_outlasts_the_halving_of_a_large_window() -> None:
    """Of vLLM's own size on large GPUs; the first row is the last to be alone."""
    rows = shard_with({0: DEADLY}, rows=1280)
    world = World(rows, Pace(window=1280, chunk_rows=500, chunk_seconds=10.0))
    endings = until_published(world, own_process=True)
    assert [type(ending) for ending in endings] == [WorkerReport]
    check(world, rows, [0])


def test_an_engine_inside_the_worker_takes_it_along_until_it_gets_its_own_process() -> None:
    rows = shard_with({5: DEADLY})
    world = World(rows, Pace(window=4))
    endings = until_published(world, own_process=False)
    assert [type(ending) for ending in endings] == [Killed, Killed, WorkerReport]
    check(world, rows, [5])


def test_the_manifest_lists_the_strikes_against_a_quarantined_row() -> None:
    world = World(shard_with({5: DEADLY}), Pace(window=8))
    until_published(world, own_process=True)
    (manifest,) = world.ledger.shard_manifests([0])
    (quarantined,) = manifest["quarantined"]
    assert quarantined["row"] == 5
    assert [len(strike["rows"]) for strike in quarantined["strikes"]] == [8, 2, 1, 1]
    assert {strike["words"] for strike in quarantined["strikes"]} == {"a prompt asked it to"}


def test_a_row_that_the_engine_refuses_costs_no_engine() -> None:
    rows = shard_with({5: REJECTED})
    world = World(rows, Pace(window=4))
    assert isinstance(world.work(), WorkerReport)
    assert world.answers()[0][5].error == "the prompt asks to be refused"
    assert world.engines == 1


@pytest.mark.parametrize("applied", [False, True])
def test_the_halving_goes_on_after_a_kill_at_any_store_call(applied: bool) -> None:
    rows = shard_with({2: DEADLY, 5: HANGING})

    def begin() -> World:
        world = World(rows, Pace(window=8))
        world.own_process = True
        return world

    whole = begin()
    whole.work()

    def kill(ordinal: int) -> None:
        world = begin()
        assert isinstance(world.work(killed_at(ordinal, applied=applied)), Killed)
        until_published(world, own_process=True)
        check(world, rows, [2, 5])

    assert failures_of(whole.calls, kill) == {}


def test_the_halving_goes_on_after_a_drain_at_any_moment() -> None:
    rows = shard_with({2: DEADLY, 5: DEADLY})
    notice = NoticeAt()
    whole = World(rows, Pace(window=8))
    whole.own_process = True
    whole.work(notice=notice)

    def drain(ask: int) -> None:
        world = World(rows, Pace(window=8))
        world.own_process = True
        world.work(notice=NoticeAt(ask))
        until_published(world, own_process=True)
        check(world, rows, [2, 5])
        output = sum(row.completion_tokens for row in world.answers()[0])
        assert world.decoded() - output <= 64, "healthy rows keep what they have"

    assert failures_of(notice.asked, drain) == {}


def test_a_node_whose_engines_all_die_blames_no_row() -> None:
    rows = shard_with({})
    world = World(rows, Pace(window=4))
    world.node_is_bad = True
    ending = world.work()
    assert isinstance(ending, EngineDied)
    session = world.ledger.sessions.of("worker-1")
    assert session is not None
    assert (session.state, session.error_kind) == ("failed", "EngineDied")
    world.node_is_bad = False
    world.resume()
    world.check_invariants(world.finish())


def test_an_engine_that_cannot_start_fails_its_session_with_its_own_words() -> None:
    world = World(shard_with({}))
    world.load_error = "CUDA out of memory"
    ending = world.work()
    assert isinstance(ending, SpotmillError)
    session = world.ledger.sessions.of("worker-1")
    assert session is not None
    assert session.error_kind == "EngineFailed"
    assert "CUDA out of memory" in str(session.error)
