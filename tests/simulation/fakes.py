"""Time that passes only when somebody waits, threads that are none, and notices on order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

from pipeline.core.notice import Notice

P = ParamSpec("P")
T = TypeVar("T")

STOP = Notice("stop", "spot notice")
_MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(slots=True)
class VirtualClock:
    """Implements `Clock`. Seconds are given out in binary fractions, so that sums stay exact."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    def timestamp(self) -> str:
        return (_MIDNIGHT + timedelta(seconds=self.seconds)).isoformat()

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class InlineExecutor(Executor):
    """Runs at submit. What is no `Exception`, such as a death, goes to whoever submitted."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as problem:
            future.set_exception(problem)
        return future


class OverAtOnce:
    """An event that is set before anybody waits: what `InlineExecutor` repeats, never begins."""

    def set(self) -> None: ...

    def wait(self, timeout: float) -> bool:
        return True


@dataclass(slots=True)
class NoticeAt:
    """Implements `InterruptionNotice`: the machine goes at the `ask`-th question; None is never."""

    ask: int | None = None
    asked: int = 0

    def pending(self) -> Notice | None:
        self.asked += 1
        return STOP if self.ask is not None and self.asked > self.ask else None
