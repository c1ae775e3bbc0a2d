"""Work beside the engine's loop: sent away, and picked up again in the loop's own thread."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Executor, Future, wait
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class WaitFor(Protocol):
    """`concurrent.futures.wait`, or what stands for it where time is virtual."""

    def __call__(
        self, fs: Collection[Future[None]], timeout: float | None, return_when: str
    ) -> Any: ...


class Errands:
    """Runs functions on an executor and their continuations in the thread that collects.

    So the state of the loop is touched by one thread alone, and needs no lock.
    """

    def __init__(self, executor: Executor, wait_for: WaitFor = wait) -> None:
        self._executor = executor
        self._wait_for = wait_for
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
                raise problem

        self._away[future] = back

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
        """Give what is away up to `seconds` in all, then collect what came back."""
        self._wait_for(self._away, timeout=seconds, return_when=ALL_COMPLETED)
        self.collect()
