"""How fast an engine answers while its window is full, as it is for nearly all of a long run."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.core.errors import RowRejected
from pipeline.core.ports import Clock, Engine
from pipeline.core.rows import Completion, Request

_SHORTEST_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Paced:
    """`answers` by id of what was asked for, without what the engine refused. `tokens_per_second`
    is 0 where it refused all."""

    answers: dict[str, Completion]
    tokens_per_second: float


def paced(
    engine: Engine, asked: Sequence[Request], beside: Sequence[Request], window: int, clock: Clock
) -> Paced:
    """Answer what is `asked` in an engine that has nothing else to do, with its `window` full until
    the last answer: of requests from `beside`, over and over if they are few.

    Timed is what comes behind the first window's worth of answers, since all of these begin at
    once, for as many again, or as are `asked` for if they are more: prompts are read in it as often
    as answers end.
    """
    enough = max(window, len(asked))
    feed = _Feed(engine, asked, beside or asked)
    answers: dict[str, Completion] = {}
    began, in_flight, ended, tokens, turned_over = clock.now(), 0, 0, 0, False
    while True:
        feed.fill(window)
        if not turned_over and ended >= window:
            began, in_flight, ended, tokens, turned_over = clock.now(), feed.tokens(), 0, 0, True
        if not feed.running or (turned_over and ended >= enough and not feed.asked):
            break
        for completion in engine.step():
            ended += 1
            tokens += len(completion.token_ids)
            if feed.done(completion.request_id):
                answers[completion.request_id] = completion
    decoded = tokens + feed.tokens() - in_flight
    seconds = max(clock.now() - began, _SHORTEST_SECONDS)
    engine.abort(feed.running)
    return Paced(answers, decoded / seconds)


class _Feed:
    """Requests in line for an engine: all that are asked for, then others without end. `asked` are
    those of them that are not done."""

    def __init__(self, engine: Engine, asked: Sequence[Request], beside: Sequence[Request]) -> None:
        self.running: set[str] = set()
        self.asked = {request.id for request in asked}
        self._engine = engine
        self._line = deque(asked)
        self._beside = deque(beside)
        self._others = 0

    def fill(self, window: int) -> None:
        while len(self.running) < window and (line := self._line or self._beside):
            request = line.popleft()
            if line is self._beside:
                self._others += 1
                request = replace(request, id=f"beside-{self._others}")
            try:
                self._engine.submit(request)
            except RowRejected:
                self.asked.discard(request.id)
                continue
            if line is self._beside:
                line.append(request)
            self.running.add(request.id)

    def done(self, request_id: str) -> bool:
        """Whether it was asked for."""
        self.running.remove(request_id)
        was_asked = request_id in self.asked
        self.asked.discard(request_id)
        return was_asked

    def tokens(self) -> int:
        """Decoded so far of what runs."""
        return sum(map(len, self._engine.in_flight().values()))
