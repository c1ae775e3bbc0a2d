"""A process among others in virtual time: its clock, its threads, its death."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

from pipeline.core.notice import Notice, graver
from tests.simulation.scheduler import Scheduler, Strand

P = ParamSpec("P")
T = TypeVar("T")

_EPOCH = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Process:
    """Implements `Clock` and `InterruptionNotice` for what runs in it.

    Its monotonic clock begins at `origin`, its wall clock goes wrong by `skew` seconds: whoever
    compares two processes' clocks is found out. It dies at its `dies_at`-th wait.
    """

    scheduler: Scheduler
    name: str
    origin: float = 0.0
    skew: float = 0.0
    dies_at: int = -1
    alive: bool = True
    frozen_until: float = 0.0
    strands: list[Strand] = field(default_factory=list)
    born_at: float = field(init=False)
    over_at: float | None = None
    ending: object = "killed"
    waits: int = 0
    _notice: Notice | None = None
    _then: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.born_at = self.scheduler.now

    def begin(self, main: Callable[[], object], then: Callable[[], None]) -> None:
        """Run `main`; its result is the `ending`. `then` is called when it is over or killed, and
        must not wait."""

        def life() -> None:
            self.ending = main()
            self.is_over()

        self._then = then
        self.scheduler.spawn(self, life)

    def kill(self) -> None:
        """An action for the scheduler's `at`; nothing when it is over already."""
        if self.over_at is None:
            self.scheduler.kill(self)

    def is_over(self) -> None:
        self.alive = False
        self.over_at = self.scheduler.now
        self._then()

    def now(self) -> float:
        return self.origin + self.scheduler.now

    def timestamp(self) -> str:
        return (_EPOCH + timedelta(seconds=self.scheduler.now + self.skew)).isoformat()

    def second_of(self, timestamp: str) -> float:
        """The virtual second at which this process wrote that timestamp."""
        return (datetime.fromisoformat(timestamp) - _EPOCH).total_seconds() - self.skew

    def sleep(self, seconds: float) -> None:
        self.waits += 1
        if self.waits == self.dies_at:
            self.scheduler.die()
        self.scheduler.sleep(seconds)

    def pending(self) -> Notice | None:
        return self._notice

    def tell(self, notice: Notice) -> bool:
        """Whether it is heard: a notice stays until a graver one comes."""
        before, self._notice = self._notice, graver(self._notice, notice)
        return self._notice is not before


class SimEvent:
    """What `threading.Event` is where time is real; one thread waits for it at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._is_set = False
        self._waiter: Strand | None = None

    def set(self) -> None:
        self._is_set = True
        if self._waiter is not None:
            self._process.scheduler.wake(self._waiter)

    def wait(self, timeout: float) -> bool:
        if not self._is_set:
            self._waiter = self._process.scheduler.running
            self._process.sleep(timeout)
            self._waiter = None
        return self._is_set


class Threads(Executor):
    """A process's background threads: at most `number` errands at once, the others queue."""

    def __init__(self, process: Process, number: int) -> None:
        self._process = process
        self._idle = number
        self._queue: list[Callable[[], None]] = []
        self._unfinished: set[Future[object]] = set()
        self._waiter: Strand | None = None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def errand() -> None:
            try:
                result = fn(*args, **kwargs)
            except Exception as problem:
                future.set_exception(problem)
            else:
                future.set_result(result)
            self._done(future)

        self._unfinished.add(future)  # type: ignore[arg-type]
        self._queue.append(errand)
        self._start_next()
        return future

    def wait_for(
        self, fs: Collection[Future[None]], timeout: float | None, return_when: str
    ) -> None:
        """What `concurrent.futures.wait` is where time is real."""
        enough = any if return_when == FIRST_COMPLETED else all
        assert timeout is not None
        scheduler = self._process.scheduler
        deadline = scheduler.now + timeout
        self._waiter = scheduler.running
        while not enough(future.done() for future in fs) and scheduler.now < deadline:
            self._process.sleep(deadline - scheduler.now)
        self._waiter = None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """A process ends when its threads have: an errand that is stuck holds it."""
        self._waiter = self._process.scheduler.running
        while self._unfinished and self._process.alive:
            self._process.sleep(3_600.0)
        self._waiter = None

    def _start_next(self) -> None:
        if self._idle and self._queue:
            self._idle -= 1
            self._process.scheduler.spawn(self._process, self._queue.pop(0))

    def _done(self, future: Future[T]) -> None:
        self._unfinished.discard(future)
        self._idle += 1
        self._start_next()
        if self._waiter is not None:
            self._process.scheduler.wake(self._waiter)
