"""A worker that stands still, is taken for dead, and goes on: at every store call of its life."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.core.cost_lines import RunBooks
from pipeline.core.errors import Interrupted
from pipeline.core.notice import Notice
from pipeline.core.preemption import preempted
from pipeline.run import books_of
from pipeline.worker import WorkerReport
from tests.simulation.fakes import STOP, NoticeAt
from tests.simulation.invariants import broken
from tests.simulation.memory_rows import Row
from tests.simulation.moments import failures_of
from tests.simulation.night import Event, Night
from tests.simulation.night import Pace as NightPace
from tests.simulation.universe import Universe
from tests.simulation.watched import asleep_at
from tests.simulation.world import (
    EXACT,
    RESTARTS,
    Pace,
    World,
    small_workload,
    tokens_in,
    undisturbed_answers,
)

BEATS_ALL_THE_TIME = Pace(lease_seconds=2.0)
"""A beat is in flight whenever a shard's last row finishes and its part is published."""

paces = pytest.mark.parametrize("pace", [Pace(), BEATS_ALL_THE_TIME], ids=["usual", "quick"])


def calls_of_a_whole_run(pace: Pace) -> int:
    world = World(small_workload(EXACT, RESTARTS), pace)
    assert isinstance(world.work(), WorkerReport)
    return world.calls


@paces
def test_a_zombie_whose_shards_were_published_meanwhile_publishes_nothing(pace: Pace) -> None:
    def sleep_through_a_takeover(ordinal: int) -> None:
        world = World(small_workload(EXACT, RESTARTS), pace)
        parts: dict[str, bytes | None] = {}

        def meanwhile() -> None:
            world.resume()
            parts.update({key: world.memory.get(key) for key in world.ledger.data_keys()})

        zombie = world.work(asleep_at(ordinal, meanwhile))
        assert isinstance(zombie, WorkerReport), repr(zombie)
        assert {key: world.memory.get(key) for key in world.ledger.data_keys()} == parts
        world.check_invariants(world.finish())

    assert failures_of(calls_of_a_whole_run(pace), sleep_through_a_takeover) == {}


@paces
@pytest.mark.parametrize("asks", [40, 50, 60, 70])
def test_a_zombie_whose_successor_is_in_the_middle_of_it(pace: Pace, asks: int) -> None:
    """The successor claims, works a while and is drained: the zombie wakes to a newer epoch."""

    def sleep_through_a_claim(ordinal: int) -> None:
        world = World(small_workload(EXACT, RESTARTS), pace)

        def meanwhile() -> None:
            successor = world.work(notice=NoticeAt(asks))
            assert isinstance(successor, Interrupted | WorkerReport), repr(successor)

        zombie = world.work(asleep_at(ordinal, meanwhile))
        assert isinstance(zombie, WorkerReport), repr(zombie)
        world.resume()
        world.check_invariants(world.finish())

    assert failures_of(calls_of_a_whole_run(pace), sleep_through_a_claim) == {}


def books_of_world(world: World) -> RunBooks:
    planned = world.shards
    return books_of(world.ledger, world.provenance, lambda: planned, "earlier", world.clock)


@pytest.mark.parametrize("ordinal", [25, 40, 60])
def test_a_worker_that_was_merely_slow_was_not_preempted(ordinal: int) -> None:
    """It lost shards, since it slept; but nobody took it away, and it ended by itself."""
    world = World({shard: [Row(f"{shard}/{n}", EXACT) for n in range(20)] for shard in range(2)})
    assert isinstance(world.work(asleep_at(ordinal, lambda: _sleep_long(world))), WorkerReport)
    world.resume()
    world.finish()
    books = books_of_world(world)
    ends = [attempt["end"] for shard in books.manifests for attempt in shard["attempts"]]
    # Its successor published while it slept, and could not know.
    assert "lost" in ends
    assert preempted(books) == frozenset()


def _sleep_long(world: World) -> None:
    world.clock.sleep(60)
    world.work()


@pytest.mark.parametrize("seconds", [28.0, 34.0])
def test_a_worker_that_lives_on_beside_its_successor_is_superseded(seconds: float) -> None:
    """Frozen for longer than a lease, and awake again before the shard is published."""
    rows = {0: tuple(Row(f"row {number}", EXACT) for number in range(60))}
    pause = Event(20.0, "pause", seconds=seconds)
    pace = NightPace(workers=1, lease_seconds=8.0)
    universe = Universe(Night(rows=rows, pace=pace, events=(pause,), calm_from=60.0))
    universe.run()
    assert list(broken(universe)) == []
    [manifest] = universe.ledger.shard_manifests([0])
    ends = [(attempt["worker_id"], attempt["end"]) for attempt in manifest["attempts"]]
    assert ends == [("worker-0", "superseded"), ("worker-1", "published")]


@dataclass(slots=True)
class NoticeOnceClaimed:
    """The machine goes as soon as somebody has claimed the first shard a second time."""

    world: World

    def pending(self) -> Notice | None:
        return STOP if self.world.ledger.latest_epoch(0) > 1 else None


def test_a_zombie_drops_its_shard_at_its_next_beat() -> None:
    # Answers of eleven tokens and more: none is finished by the second beat.
    rows = {0: [Row(prompt) for prompt in ("red hare", "green bear", "dark cat")]}
    world = World(rows, Pace(chunk_rows=100, chunk_seconds=1_000.0))

    def meanwhile() -> None:
        # Five calls claim the shard and five more are two beats: the sleep is in the second.
        assert world.ledger.latest_epochs() == {0: 1}
        assert isinstance(world.work(notice=NoticeOnceClaimed(world)), Interrupted)

    zombie = world.work(asleep_at(8, meanwhile))
    assert isinstance(zombie, WorkerReport), repr(zombie)
    assert (zombie.shards_published, zombie.rows) == (0, 0)
    assert world.ledger.published() == set()
    session = world.ledger.sessions.of("worker-1")
    assert session is not None
    assert 0 < session.decoded < tokens_in(undisturbed_answers(rows))
    assert session.buckets.useful == 0, "what a zombie did in vain is waste"
    assert session.buckets.wasted > 0
    world.resume()
    world.check_invariants(world.finish())
