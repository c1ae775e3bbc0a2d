"""An engine that only counts: for replays of many node-hours, where tokens have no meaning."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

from pipeline.core.ports import Clock
from pipeline.core.rows import ChatPrompt, Completion, EngineMetrics, Prompt, Request


class CoarseEngine:
    """Implements `Engine`: each step gives every running row one token, which is always 0.

    A row's prompt decides its length, 1 to `longest`. `decoded` is every token ever given, and
    `last_at` when the last step ended, by `clock`; both outlive the process that it runs in.
    """

    own_process = True
    version = "coarse 1"

    def __init__(self, window: int, longest: int, step_seconds: float, clock: Clock) -> None:
        self.window = window
        self.decoded = 0
        self.last_at = clock.now()
        self._longest = longest
        self._step_seconds = step_seconds
        self._clock = clock
        self._steps = 0
        self._ends: dict[str, int] = {}
        self._lengths: dict[str, int] = {}
        self._ending: dict[int, list[str]] = {}

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        assert not isinstance(prompt, ChatPrompt)
        return (zlib.crc32(prompt.text.encode()),)

    def submit(self, request: Request) -> None:
        length = 1 + request.prompt_token_ids[0] % self._longest
        end = self._steps + length - len(request.saved)
        self._lengths[request.id] = length
        self._ends[request.id] = end
        self._ending.setdefault(end, []).append(request.id)

    def step(self) -> Sequence[Completion]:
        self._clock.sleep(self._step_seconds)
        self._steps += 1
        self.decoded += len(self._ends)
        self.last_at = self._clock.now()
        done: list[Completion] = []
        for name in self._ending.pop(self._steps, ()):
            # Its id is used again when an aborted row comes back: only the last end counts.
            if self._ends.get(name) == self._steps:
                del self._ends[name]
                tokens = (0,) * self._lengths.pop(name)
                done.append(Completion(name, "", tokens, "stop", 0))
        return done

    def in_flight(self) -> Mapping[str, tuple[int, ...]]:
        return {
            name: (0,) * (self._lengths[name] - (end - self._steps))
            for name, end in self._ends.items()
        }

    def abort(self, request_ids: Iterable[str]) -> None:
        for name in request_ids:
            self._ends.pop(name, None)
            self._lengths.pop(name, None)

    def metrics(self) -> EngineMetrics:
        return EngineMetrics()

    def close(self) -> None: ...
