"""An engine whose next token is sometimes a near-tie, which the company of a request decides."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp

from pipeline.core.rows import Completion, EngineMetrics, Prompt, Request, TextPrompt

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 40
_NEAR, _FAR = 0.05, 5.0


@dataclass(slots=True)
class WaveringEngine:
    """Implements `Engine`. Tokens are letters; every fifth place or so is a near-tie, of which
    requests that are not alone take the second best token."""

    steadfast: bool = False
    running: dict[str, Request] = field(default_factory=dict)
    asked: int = 0
    window: int = 64
    version: str = "wavering 1"
    own_process: bool = True

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        assert isinstance(prompt, TextPrompt)
        return tuple(prompt.text.encode())

    def submit(self, request: Request) -> None:
        self.running[request.id] = request
        self.asked += 1

    def step(self) -> Sequence[Completion]:
        alone = self.steadfast or len(self.running) == 1
        done = [self._answer(request, alone) for request in self.running.values()]
        self.running.clear()
        return done

    def in_flight(self) -> Mapping[str, tuple[int, ...]]:
        return {}

    def abort(self, request_ids: Iterable[str]) -> None: ...

    def metrics(self) -> EngineMetrics:
        return EngineMetrics()

    def close(self) -> None: ...

    def _answer(self, request: Request, alone: bool) -> Completion:
        dice = random.Random(request.sampling.seed)
        tokens = list(request.saved)
        whole = min(LENGTH, request.sampling.max_tokens)
        while len(tokens) < whole:
            best, rival, gap = _odds(request.prompt_token_ids, tokens)
            if request.sampling.temperature > 0.0:
                second = dice.random() < 1.0 / (1.0 + exp(gap / request.sampling.temperature))
            else:
                second = gap == _NEAR and not alone
            tokens.append(rival if second else best)
        reason = "stop" if whole == LENGTH else "length"
        text = "".join(LETTERS[token] for token in tokens)
        return Completion(request.id, text, tuple(tokens), reason, 0)


def _odds(prompt: tuple[int, ...], tokens: list[int]) -> tuple[int, int, float]:
    seed = zlib.crc32(bytes([*prompt, *tokens]))
    best = seed % len(LETTERS)
    rival = (best + 1 + seed // 7 % (len(LETTERS) - 1)) % len(LETTERS)
    return best, rival, _NEAR if seed % 5 == 0 else _FAR
