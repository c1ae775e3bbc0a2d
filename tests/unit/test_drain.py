"""A drain while the store is slow: what it has not answered yet may be lost, and is said again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from pipeline.core.manifest import Provenance
from pipeline.core.money import Node
from pipeline.core.poison import Strike
from pipeline.core.rows import FinishedRow
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.errands import Errands
from pipeline.feed import Feed
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


def at_once(*_: object, **__: object) -> None:
    """A wait that is over: time is virtual."""


def test_what_a_save_on_its_way_holds_is_in_the_last_checkpoint_too() -> None:
    clock, sheet, executor = VirtualClock(), Timesheet(0.0, 0), Away()
    errands = Errands(executor, at_once)
    feed = Feed(ScriptedEngine(ScriptedSettings(), clock.sleep), errands, clock, sheet)
    ledger = Ledger(MemoryStore(), "night", JsonFormat())
    settings = WorkerSettings("w", "memory://answers/", 2, 3.0, 16.0, Node())
    saver = Saver(
        settings,
        lambda: Provenance("night", "sha256:0", {}, {}),
        *(ledger, feed, errands, clock, Patience(clock)),
    )
    shard = held(0)
    feed.held[shard.name] = shard

    executor.away = True
    shard.unsaved, shard.unsaved_strikes = ROWS[:1], STRIKES[:1]
    saver.save_everything()
    assert shard.saving is not None
    executor.away = False
    shard.unsaved, shard.unsaved_strikes = ROWS[1:], STRIKES[1:]
    saver.drain("drained", 1.0)

    progress = ledger.progress(0, before_epoch=2)
    assert [progress.finished[row] for row in sorted(progress.finished)] == ROWS
    assert list(progress.strikes) == STRIKES
