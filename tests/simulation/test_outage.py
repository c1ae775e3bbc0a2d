"""A store that is away: the engine goes on up to a bound, waits, and nothing is dropped."""

from __future__ import annotations

from pipeline.stores.faults import NO_FAULT, REFUSED, Call, Fault
from pipeline.worker import WorkerReport
from tests.simulation.memory_rows import Row
from tests.simulation.world import EXACT, Pace, Rows, World, tokens_in

ROWS: Rows = {0: [Row(f"one of many prompts, number {n}", EXACT) for n in range(80)]}
PACE = Pace(window=4, chunk_rows=2, chunk_seconds=600.0, step_seconds=1.0)
AWAY_FROM, AWAY_UNTIL = 10.0, 400.0


def test_the_engine_waits_when_too_much_is_unsaved_and_nothing_is_dropped() -> None:
    world = World(ROWS, PACE)

    def away(_: Call) -> Fault:
        return REFUSED if AWAY_FROM <= world.clock.now() < AWAY_UNTIL else NO_FAULT

    world.faults = away
    ending = world.work()
    assert isinstance(ending, WorkerReport)
    assert ending.shards_published == 1
    manifest = world.finish()
    world.check_invariants(manifest)
    assert world.decoded() == tokens_in(world.answers())
    session = world.ledger.sessions.of("worker-1")
    assert session is not None
    idle = session.buckets.idle / 1e6
    assert idle > (AWAY_UNTIL - AWAY_FROM) / 2, "it generated beyond its buffer"
    largest = max(
        len(point.finished)
        for key in world.memory.list("runs/night/checkpoints/")
        if (body := world.memory.get(key)) is not None
        for point in [world.format.decode_checkpoint(body)]
    )
    assert 8 * PACE.chunk_rows <= largest <= 8 * PACE.chunk_rows + PACE.window
