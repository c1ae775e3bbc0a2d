"""A worker id that starts twice: every life has its session, its leases and its bill."""

from __future__ import annotations

import pytest

from pipeline.core.errors import Interrupted
from pipeline.worker import WorkerReport
from tests.simulation.fakes import NoticeAt
from tests.simulation.moments import failures_of
from tests.simulation.watched import Killed, killed_at
from tests.simulation.world import EXACT, RESTARTS, World, small_workload

WORKER = "w-1"


def both_lives_are_billed(world: World) -> None:
    """Whatever the first life was, a second one under the same id, and the books of both."""
    first = world.ledger.sessions.all()
    world.work(worker_id=WORKER)
    world.resume()
    manifest = world.finish()
    world.check_invariants(manifest)
    workers = {worker["worker_id"]: worker for worker in manifest["workers"]}
    # One that died before its first beat was stored has no session, and the second life its id.
    assert workers.keys() >= ({WORKER, f"{WORKER}.2"} if first else {WORKER})
    for session in first.values():
        row = workers[session.worker_id]
        billed = {"uncertain": row["uncertain"]["seconds"]} if session.untold else row["seconds"]
        assert sum(billed.values()) >= session.buckets.total / 1e6


@pytest.mark.parametrize("applied", [False, True])
def test_a_killed_worker_is_started_again(applied: bool) -> None:
    whole = World(small_workload(EXACT, RESTARTS))
    whole.work()

    def kill(ordinal: int) -> None:
        world = World(small_workload(EXACT, RESTARTS))
        died = world.work(killed_at(ordinal, applied=applied), worker_id=WORKER)
        assert isinstance(died, Killed)
        both_lives_are_billed(world)

    assert failures_of(whole.calls, kill) == {}


def test_a_drained_worker_is_started_again() -> None:
    notice = NoticeAt()
    World(small_workload(EXACT)).work(notice=notice)

    def drain(ask: int) -> None:
        world = World(small_workload(EXACT))
        assert isinstance(world.work(notice=NoticeAt(ask), worker_id=WORKER), Interrupted)
        both_lives_are_billed(world)

    assert failures_of(notice.asked, drain) == {}


def test_a_second_life_does_not_take_the_first_ones_lease_for_its_own() -> None:
    """They may both live: a platform that lost sight of one starts another."""
    world = World(small_workload(EXACT))
    world.work(killed_at(12, applied=True), worker_id=WORKER)
    held = world.ledger.lease(0, 1)
    assert held is not None
    assert held.worker_id == WORKER
    assert isinstance(world.work(worker_id=WORKER), WorkerReport)
    epochs = world.ledger.latest_epochs()
    leases = [world.ledger.lease(shard, epoch) for shard, epoch in epochs.items()]
    assert {lease.worker_id for lease in leases if lease} == {f"{WORKER}.2"}
    assert epochs[0] == 2
