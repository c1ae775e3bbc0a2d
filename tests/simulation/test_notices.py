"""What a worker makes of a notice: use the time there is, and be gone before it is over."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.core.errors import Interrupted
from pipeline.core.notice import Notice
from pipeline.engines.scripted import DEADLY
from pipeline.worker import WorkerReport
from tests.simulation.memory_rows import Row
from tests.simulation.world import EXACT, Pace, Rows, World, tokens_in

ROWS: Rows = {0: [Row(f"one of many prompts, number {n}", EXACT) for n in range(60)]}
SLOW = Pace(step_seconds=2.0, window=4, chunk_rows=100, chunk_seconds=600.0)
TOLD_AT = 12.0


@dataclass(slots=True)
class Told:
    """A notice that comes at a moment of the world's time."""

    world: World
    notice: Notice

    def pending(self) -> Notice | None:
        return self.notice if self.world.clock.now() >= TOLD_AT else None


def told(notice: Notice) -> tuple[World, object]:
    world = World(ROWS, SLOW)
    return world, world.work(notice=Told(world, notice))


@pytest.mark.parametrize(
    ("notice", "first", "last"),
    [
        (Notice("stop", "SIGTERM"), TOLD_AT, TOLD_AT + 5),
        (Notice("stop", "SIGTERM", 30.0), TOLD_AT, TOLD_AT + 5),
        (Notice("reclaim", "spot", 30.0), TOLD_AT + 23, TOLD_AT + 28),
        (Notice("reclaim", "spot", 120.0), TOLD_AT + 113, TOLD_AT + 118),
        (Notice("reclaim", "spot", 15.0), TOLD_AT + 8, TOLD_AT + 14),
        (Notice("reclaim", "spot"), TOLD_AT, TOLD_AT + 5),
    ],
)
def test_it_works_on_as_long_as_it_may_and_loses_nothing(
    notice: Notice, first: float, last: float
) -> None:
    world, ending = told(notice)
    assert isinstance(ending, Interrupted)
    assert first <= world.clock.now() <= last
    world.resume()
    manifest = world.finish()
    world.check_invariants(manifest)
    assert world.decoded() == tokens_in(world.answers())
    assert manifest["tokens"]["wasted"] == 0


def test_what_is_done_is_saved_as_soon_as_a_notice_comes() -> None:
    """For the machine may go sooner than was said."""
    world = World(ROWS, SLOW)
    saved: list[bool] = []

    @dataclass(slots=True)
    class Looking(Told):
        def pending(self) -> Notice | None:
            if self.world.clock.now() >= TOLD_AT + 5:
                saved.append(bool(self.world.ledger.checkpointed_rows()))
            return Told.pending(self)

    assert isinstance(
        world.work(notice=Looking(world, Notice("reclaim", "spot", 30.0))), Interrupted
    )
    assert saved[0]


def test_a_mere_risk_is_saved_for_and_worked_through() -> None:
    world, ending = told(Notice("risk", "rebalance recommendation"))
    assert isinstance(ending, WorkerReport)
    assert world.ledger.checkpointed_rows() != {}
    world.check_invariants(world.finish())


def test_nobody_waits_for_an_end_with_nothing_in_hand() -> None:
    world = World(ROWS, SLOW)
    world.work()
    began = world.clock.now()
    assert isinstance(world.work(notice=Told(world, Notice("reclaim", "spot", 120.0))), Interrupted)
    assert world.clock.now() - began < 5


def test_a_long_notice_is_not_idled_away_when_the_shard_in_hand_ends() -> None:
    rows = {s: [Row(f"shard {s}, row {n}", EXACT) for n in range(12)] for s in range(8)}
    world = World(rows, SLOW)
    ending = world.work(notice=Told(world, Notice("reclaim", "spot", 120.0)))
    assert isinstance(ending, Interrupted)
    assert TOLD_AT + 110 <= world.clock.now() <= TOLD_AT + 118
    world.resume()
    manifest = world.finish()
    world.check_invariants(manifest)
    assert manifest["tokens"]["wasted"] == 0


@pytest.mark.parametrize("told_at", [60.9, 70.0], ids=["as the engine dies", "while it is loaded"])
@pytest.mark.parametrize("notice", [Notice("stop", "SIGTERM", 90.0), Notice("reclaim", "x", 90.0)])
def test_no_engine_is_loaded_or_used_after_a_notice(notice: Notice, told_at: float) -> None:
    """A load that was under way is waited for; then nobody knows how much time is left."""
    rows = {0: [Row(f"answers of many tokens {n}{DEADLY * (n == 5)}", EXACT) for n in range(8)]}
    world = World(rows, Pace(window=8, load_seconds=60.0, lease_seconds=1_000.0))
    world.own_process = True

    @dataclass(slots=True)
    class Then(Told):
        def pending(self) -> Notice | None:
            return self.notice if self.world.clock.now() >= told_at else None

    assert isinstance(world.work(notice=Then(world, notice)), Interrupted)
    loads = 1 if told_at < 70 else 2
    assert world.engines == loads
    assert world.clock.now() < 60 * loads + 5
    strikes = world.ledger.progress(0, 99).strikes
    assert len(strikes) == (told_at == 70 or notice.kind == "reclaim"), "a stop is no evidence"
