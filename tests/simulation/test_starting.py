"""A worker claims before it loads: what it reads then, and what becomes of starts that fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import pytest

from pipeline.core.errors import EngineDied, EngineFailed, Interrupted
from pipeline.core.layout import run_manifest_key
from pipeline.core.notice import Notice
from pipeline.core.session import EngineStart
from pipeline.engines.scripted import ScriptedEngine
from pipeline.worker import WorkerReport
from tests.simulation.memory_rows import Row
from tests.simulation.watched import Killed
from tests.simulation.world import EXACT, RUN, Rows, World

ROWS: Rows = {s: [Row(f"shard {s}, row {n}", EXACT) for n in range(6)] for s in range(2)}


@dataclass(slots=True)
class Loading(World):
    """Something happens while engines load; `loads` says which were to have their own process."""

    meanwhile: Callable[[], None] = lambda: None
    loads: list[bool] = field(default_factory=list)

    def _load_engine(self, own_process: bool) -> ScriptedEngine:
        self.loads.append(own_process)
        self.meanwhile()
        return World._load_engine(self, own_process)


@dataclass(slots=True)
class Told:
    notice: Notice | None = None

    def pending(self) -> Notice | None:
        return self.notice


def killed() -> None:
    raise Killed("while it loaded")


def finished(world: World) -> None:
    world.resume()
    world.check_invariants(world.finish())


def test_a_shard_is_claimed_and_read_before_the_model_is_loaded() -> None:
    world = Loading(ROWS)
    held: list[dict[int, int]] = []
    states: list[str] = []

    def look() -> None:
        held.append(world.ledger.latest_epochs())
        states.extend(session.state for session in world.ledger.sessions.all().values())

    world.meanwhile = look
    assert isinstance(world.work(), WorkerReport)
    assert [len(epochs) for epochs in held] == [1]
    # What it told first: a beat in its stead will say that it loads, if that takes a while.
    assert states == ["boot"]
    world.check_invariants(world.finish())


def test_no_model_is_loaded_when_nothing_is_left() -> None:
    world = Loading(ROWS)
    assert isinstance(world.work(), WorkerReport)
    before = len(world.loads)
    ending = world.work()
    assert isinstance(ending, WorkerReport)
    assert (ending.rows, ending.shards_published) == (0, 0)
    assert len(world.loads) == before
    sessions = world.ledger.sessions.all()
    assert sessions["worker-2"].state == "ended"
    assert sessions["worker-2"].buckets.load == 0
    world.check_invariants(world.finish())


def test_an_engine_that_does_not_load_lets_the_shard_go_at_once() -> None:
    world = Loading(ROWS)
    world.load_error = "no memory"
    assert isinstance(world.work(), EngineFailed)
    world.load_error = None
    ended_at = world.clock.now()
    waited: list[float] = []
    world.meanwhile = lambda: waited.append(world.clock.now() - ended_at)
    epochs = world.ledger.latest_epochs()
    assert isinstance(world.work(), WorkerReport)
    assert waited[0] < world.pace.lease_seconds / 4
    assert all(world.ledger.latest_epoch(shard) == 2 for shard in epochs)
    # The rows are not to blame.
    assert world.loads == [False, False]
    world.check_invariants(world.finish())


def test_a_worker_told_to_go_while_it_loads_lets_the_shard_go() -> None:
    world = Loading(ROWS)
    told = Told()

    def tell() -> None:
        told.notice = Notice("reclaim", "spot", 120.0)

    world.meanwhile = tell
    assert isinstance(world.work(notice=told), Interrupted)
    world.meanwhile = lambda: None
    assert world.ledger.sessions.all()["worker-1"].state == "ended"
    finished(world)
    assert world.loads == [False, False]


@pytest.mark.parametrize("kills", [1, 2, 3])
def test_deaths_while_loading_say_nothing_of_the_rows(kills: int) -> None:
    world = Loading({0: ROWS[0]})
    world.meanwhile = killed
    endings = [world.work() for _ in range(kills)]
    assert all(isinstance(ending, Killed) for ending in endings)
    world.meanwhile = lambda: None
    world.loads.clear()
    finished(world)
    assert world.loads == [False]


def test_what_is_known_before_it_loads_saves_a_load() -> None:
    world = Loading({0: ROWS[0]})
    world.node_is_bad = True
    assert isinstance(world.work(), EngineDied)
    world.node_is_bad = False
    world.loads.clear()
    finished(world)
    assert world.loads == [True]


def test_how_an_engine_came_about_is_told_in_the_runs_manifest_and_verified() -> None:
    world = World(ROWS)
    world.engine_start = EngineStart(1.5, 2.25, 7, "bucket", "off")
    assert isinstance(world.work(), WorkerReport)
    manifest = world.finish()
    [worker] = manifest["workers"]
    assert worker["start"] == asdict(world.engine_start)
    assert world.problems() == []
    said = json.loads(world.memory.get(run_manifest_key(RUN)) or b"")
    said["workers"][0]["start"]["weights"] = "node"
    world.memory.put(run_manifest_key(RUN), json.dumps(said).encode())
    assert any("start" in problem for problem in world.problems())


def test_a_run_is_closed_while_its_worker_loads_another_engine() -> None:
    """What is said of the later engine is no lie about the run."""
    world = World(ROWS)
    world.engine_start = EngineStart(1.5, 2.25, 7, "bucket", "off")
    assert isinstance(world.work(), WorkerReport)
    world.finish()
    [session] = world.ledger.sessions.all().values()
    later = replace(session, beat=session.beat + 1, start=EngineStart(0.5, 2.0, 0, "node", "off"))
    world.ledger.sessions.beat(later)
    assert world.problems() == []
