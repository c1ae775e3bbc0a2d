"""A pool that starts virtual processes, and hears of their deaths soon, late or never."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from pipeline.core.errors import Interrupted, PoolUnavailable
from pipeline.core.fleet import WorkerEnd
from pipeline.core.notice import Notice
from pipeline.worker import WorkerReport
from tests.simulation.process import Process

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Hearing:
    """A pool learns of a death within `seconds`, but of the share `deaf` of them never.

    The share `away` of its calls fail until second `clears_at`, a start perhaps after it was made.
    One that is `mute` passes no stop on, and kills nobody.
    The share `again` of workers that were killed or drained are started again under the same id, by
    the pool's own platform.
    """

    seconds: float = 1.0
    deaf: float = 0.0
    away: float = 0.0
    clears_at: float = 0.0
    mute: bool = False
    again: float = 0.0


@dataclass(slots=True)
class SimPool:
    """Implements `WorkerPool` for the supervisor `process`, whose death its workers outlive.

    `newest` is the process that a worker id has now; what is told to `never_again` is started no
    more.
    """

    process: Process
    launch: Callable[[str], Process]
    newest: Callable[[str], Process]
    never_again: Callable[[str], None]
    hearing: Hearing
    dice: Random
    _live: dict[str, float] = field(default_factory=dict)

    def start(self, worker_id: str) -> str:
        if worker_id in self._live:
            # Asked for again, since its answer was lost.
            return self.newest(worker_id).name
        away = self._away()
        if away and self.dice.random() < 0.5:
            raise PoolUnavailable("injected: start refused")
        worker = self.launch(worker_id)
        delay = self.dice.random() * self.hearing.seconds
        if self.dice.random() < self.hearing.deaf:
            delay = float("inf")
        self._live[worker_id] = delay
        self.process.sleep(self.dice.random())
        if away:
            raise PoolUnavailable("injected: answer to start lost")
        return worker.name

    def ended(self) -> Mapping[str, WorkerEnd]:
        if self._away():
            raise PoolUnavailable("injected: ended refused")
        now = self.process.scheduler.now
        newest = {worker_id: self.newest(worker_id) for worker_id in self._live}
        ends = {
            worker_id: _in_words(worker.ending)
            for worker_id, worker in newest.items()
            if worker.over_at is not None and worker.over_at + self._live[worker_id] <= now
        }
        for worker_id in ends:
            del self._live[worker_id]
        return ends

    def running(self) -> int:
        return len(self._live)

    def stop(self) -> None:
        if self.hearing.mute:
            return
        scheduler = self.process.scheduler
        for worker_id in self._live:
            self.never_again(worker_id)
        workers = [self.newest(worker_id) for worker_id in self._live]
        for worker in workers:
            worker.tell(Notice("stop", "asked to stop", _DRAIN_SECONDS))
        deadline = scheduler.now + _DRAIN_SECONDS
        while any(worker.over_at is None for worker in workers) and scheduler.now < deadline:
            self.process.sleep(1.0)
        for worker in workers:
            scheduler.at(scheduler.now, worker.kill)
        self.process.sleep(0.0)

    def _away(self) -> bool:
        if not self.hearing.away or self.process.scheduler.now >= self.hearing.clears_at:
            return False
        return self.dice.random() < self.hearing.away


def _in_words(ending: object) -> WorkerEnd:
    if isinstance(ending, WorkerReport | Interrupted):
        return WorkerEnd()
    return WorkerEnd("killed by SIGKILL" if ending == "killed" else "exit code 1")
