"""What a store has not answered yet, or refused, may be lost: the next checkpoint says it again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from pipeline.core.errors import StoreUnavailable
from pipeline.core.manifest import Provenance
from pipeline.core.money import Node
from pipeline.core.poison import Strike
from pipeline.core.ports import Body
from pipeline.core.rows import FinishedRow
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.held import HeldShard
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.saver import Saver
from pipeline.stores.memory import MemoryStore
from pipeline.timesheet import Timesheet
from pipeline.worker_settings import WorkerSettings
from tests.simulation.fakes import InlineExecutor, VirtualClock
from tests.simulation.memory_rows import JsonFormat
from tests.unit.test_timesheet import held

P = ParamSpec("P")
T = TypeVar("T")

ROWS = [FinishedRow(n, f"answer {n}", "stop") for n in (1, 2)]
STRIKES = [Strike(1, n, (n,), 0, "it died") for n in (1, 2)]


class Away(InlineExecutor):
    """Of what is sent while it is `away`, nobody ever hears."""

    away = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return Future() if self.away else super().submit(fn, *args, **kwargs)


class Refusing(MemoryStore):
    refusing = False

    def create(self, key: str, body: Body) -> bool:
        if self.refusing:
            raise StoreUnavailable("no answer", where=key)
        return super().create(key, body)


def at_once(*_: object, **__: object) -> None:
    """A wait that is over: time is virtual."""


@dataclass(slots=True)
class Desk:
    """A shard in a worker's hands, and what makes it durable."""

    executor: Away = field(default_factory=Away)
    store: Refusing = field(default_factory=Refusing)
    clock: VirtualClock = field(default_factory=VirtualClock)
    shard: HeldShard = field(default_factory=lambda: held(0))
    errands: Errands = field(init=False)
    ledger: Ledger = field(init=False)
    saver: Saver = field(init=False)

    def __post_init__(self) -> None:
        self.errands = errands = Errands(self.executor, at_once)
        self.ledger = ledger = Ledger(self.store, "night", JsonFormat())
        engine = ScriptedEngine(ScriptedSettings(), self.clock.sleep)
        feed = Feed(engine, errands, self.clock, Timesheet(0.0, 0))
        feed.held[self.shard.name] = self.shard
        self.saver = Saver(
            WorkerSettings("w", "memory://answers/", 2, 3.0, 16.0, Node()),
            lambda: Provenance("night", "sha256:0", {}, {}),
            *(ledger, feed, errands, self.clock, Patience(self.clock)),
        )

    def finish(self, number: int) -> None:
        """One more row, and one more death of the engine's, neither saved."""
        self.shard.unsaved.append(ROWS[number])
        self.shard.unsaved_strikes.append(STRIKES[number])

    def saved(self) -> tuple[list[FinishedRow], list[Strike]]:
        progress = self.ledger.progress(0, before_epoch=2)
        rows = [progress.finished[row] for row in sorted(progress.finished)]
        return rows, list(progress.strikes)


def test_what_a_save_on_its_way_holds_is_in_a_drains_last_checkpoint_too() -> None:
    desk = Desk()
    desk.executor.away = True
    desk.finish(0)
    desk.saver.save_everything()
    assert desk.shard.saving is not None
    desk.executor.away = False
    desk.finish(1)
    desk.saver.drain("drained", 1.0)
    assert desk.saved() == (ROWS, STRIKES)


def test_what_a_refused_save_held_is_in_the_next() -> None:
    desk = Desk()
    desk.store.refusing = True
    desk.finish(0)
    desk.saver.save_everything()
    desk.errands.collect()
    assert desk.shard.saving is None
    desk.store.refusing = False
    desk.finish(1)
    desk.clock.sleep(60.0)
    desk.saver.save_everything()
    desk.errands.collect()
    assert desk.saved() == (ROWS, STRIKES)
