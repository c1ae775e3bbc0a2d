"""However many shards are in hand, the tokens in flight are looked at once a round."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.core.errors import Interrupted
from pipeline.engines.scripted import ScriptedEngine
from pipeline.feed import Feed
from tests.simulation.fakes import NoticeAt
from tests.simulation.memory_rows import Row
from tests.simulation.world import EXACT, Pace, World

SHARDS = 20


@dataclass(slots=True)
class Looks:
    """How often `in_flight` was asked, between two steps of the engine at most."""

    now: int = 0
    most: int = 0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    found = Looks()
    whole, step = Feed.settle, ScriptedEngine.step

    def settle(feed: Feed):  # type: ignore[no-untyped-def]
        found.now += 1
        found.most = max(found.most, found.now)
        return whole(feed)

    def counted(engine: ScriptedEngine):  # type: ignore[no-untyped-def]
        found.now = 0
        return step(engine)

    monkeypatch.setattr(Feed, "settle", settle)
    monkeypatch.setattr(ScriptedEngine, "step", counted)
    return found


def test_many_shards_are_saved_and_drained_in_one_look(looks: Looks) -> None:
    rows = {s: [Row(f"a prompt of shard {s}, row {n}", EXACT) for n in range(3)] for s in range(20)}
    pace = Pace(window=60, call_seconds=0.0, chunk_seconds=2.0, chunk_rows=50)
    world = World(rows, pace)
    assert isinstance(world.work(notice=NoticeAt(22)), Interrupted)
    assert len(world.ledger.latest_epochs()) > SHARDS / 2
    # Saved, published, beaten, and at the end beaten once more.
    assert looks.most <= 6
    world.resume()
    world.check_invariants(world.finish())
