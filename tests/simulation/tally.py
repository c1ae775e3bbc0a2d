"""What an engine truly decoded, counted beside the books and kept when its worker dies."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.portion import AttemptName
from pipeline.core.ports import Engine
from pipeline.core.rows import Completion, EngineMetrics, Prompt, Request
from tests.simulation.process import Process


@dataclass(slots=True)
class Tally:
    """Tokens decoded by all engines of one worker, and when; by attempt, the steps in which
    somebody else had what it was on."""

    decoded: int = 0
    steps_as_zombie: Counter[AttemptName] = field(default_factory=Counter)
    _seconds: list[float] = field(default_factory=list)
    _totals: list[int] = field(default_factory=list)

    def add(self, tokens: int, now: float) -> None:
        self.decoded += tokens
        self._seconds.append(now)
        self._totals.append(self.decoded)

    def by(self, second: float) -> int:
        """Tokens decoded until then."""
        steps = bisect_right(self._seconds, second)
        return self._totals[steps - 1] if steps else 0

    def was(self, total: int) -> bool:
        """Whether this was the number of tokens at any time."""
        return total == 0 or total in self._totals


class CountedEngine:
    """Implements `Engine`: `inner`, every running request counted at every step."""

    def __init__(
        self,
        inner: Engine,
        tally: Tally,
        process: Process,
        is_superseded: Callable[[AttemptName], bool],
        close_seconds: float = 0.0,
    ) -> None:
        self._inner = inner
        self._tally = tally
        self._process = process
        self._is_superseded = is_superseded
        self._close_seconds = close_seconds
        self._running: set[str] = set()

    @property
    def window(self) -> int:
        return self._inner.window

    @property
    def own_process(self) -> bool:
        return self._inner.own_process

    @property
    def version(self) -> str:
        return self._inner.version

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        return self._inner.encode(prompt)

    def submit(self, request: Request) -> None:
        sampling = request.sampling
        seeded = sampling.seed is not None and sampling.temperature > 0
        assert not (seeded and request.saved), f"{request.id} goes on, its random numbers do not"
        self._inner.submit(request)
        assert request.id not in self._running, f"{request.id} is in the engine twice"
        self._running.add(request.id)

    def step(self) -> Sequence[Completion]:
        completions = self._inner.step()
        self._tally.add(len(self._running), self._process.scheduler.now)
        of_rows = self._running - {"control"}
        for attempt in {AttemptName(*map(int, name.split("-")[:-1])) for name in of_rows}:
            self._tally.steps_as_zombie[attempt] += self._is_superseded(attempt)
        self._running.difference_update(done.request_id for done in completions)
        return completions

    def in_flight(self) -> Mapping[str, Sequence[int]]:
        return self._inner.in_flight()

    def abort(self, request_ids: Iterable[str]) -> None:
        names = list(request_ids)
        self._running.difference_update(names)
        self._inner.abort(names)

    def metrics(self) -> EngineMetrics:
        return self._inner.metrics()

    def close(self) -> None:
        self._inner.close()
        if self._close_seconds:
            self._process.sleep(self._close_seconds)
