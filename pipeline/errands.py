"""Work beside the engine's loop: sent away, and picked up again in the loop's own thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from pipeline.core.errors import SpotmillError

T = TypeVar("T")

log = logging.getLogger("spotmill.worker")


class WaitFor(Protocol):
    """`concurrent.futures.wait`, or what stands for it where time is virtual."""

    def __call__(
        self, fs: Collection[Future[None]], timeout: float | None, return_when: str
    ) -> Any: ...


class Event(Protocol):
    """What is used of `threading.Event`."""

    def set(self) -> None: ...

    def wait(self, timeout: float) -> bool: ...


class Errands:
    """Runs functions on an executor and their continuations in the thread that collects.

    So the state of the loop is touched by one thread alone, and needs no lock.
    """

    def __init__(
        self,
        executor: Executor,
        wait_for: WaitFor = wait,
        new_event: Callable[[], Event] = threading.Event,
    ) -> None:
        self._executor = executor
        self._wait_for = wait_for
        self._new_event = new_event
        self._away: dict[Future[None], Callable[[], None]] = {}

    def send(
        self,
        errand: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Run `errand` elsewhere; a later `collect` calls `then` with its result, or `failed`."""
        results: list[T] = []
        future: Future[None] = self._executor.submit(lambda: results.append(errand()))

        def back() -> None:
            problem = future.exception()
            if problem is None:
                then(results[0])
            elif isinstance(problem, Exception):
                failed(problem)
            else:
                # A library's panic, which would pass by every handler, and leave without a word.
                raise SpotmillError(
                    f"an errand ended with {type(problem).__name__}", why=str(problem)
                ) from problem

        self._away[future] = back

    @contextmanager
    def repeated(self, errand: Callable[[], None], seconds: float) -> Iterator[None]:
        """Run `errand` every so many `seconds` while the context lasts.

        Its last run is away like any errand until it is collected. What it raises is logged.
        """
        over = self._new_event()

        def rounds() -> None:
            while not over.wait(seconds):
                try:
                    errand()
                except Exception as problem:
                    log.warning("%s", problem)

        future = self._executor.submit(rounds)
        try:
            yield
        finally:
            over.set()
            self._away[future] = lambda: None

    def __len__(self) -> int:
        return len(self._away)

    def collect(self) -> None:
        """Run the continuations of what is done, in the order in which it was sent."""
        for future in [future for future in self._away if future.done()]:
            self._away.pop(future)()

    def wait(self, seconds: float) -> None:
        """Return when an errand is done, or after `seconds`."""
        self._wait_for(self._away, timeout=seconds, return_when=FIRST_COMPLETED)

    def finish(self, seconds: float) -> None:
        """Give what is away up to `seconds` in all and take what came back, before the end.

        A continuation that raises is only logged: the others still have theirs to save.
        """
        self._wait_for(self._away, timeout=seconds, return_when=ALL_COMPLETED)
        for future in [future for future in self._away if future.done()]:
            try:
                self._away.pop(future)()
            except Exception as problem:
                log.warning("at the end: %s", problem)
