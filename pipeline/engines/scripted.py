"""A deterministic engine without a model: the same row gets the same tokens, however often it is
interrupted. For simulation and for tests of everything around the engine."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.errors import EngineDied, RowRejected
from pipeline.core.rows import ChatPrompt, Completion, EngineMetrics, Prompt, Request
from pipeline.engines.counter import counter_in

_VOCABULARY = 50_000
REJECTED, DEADLY, HANGING = "[[reject]]", "[[die]]", "[[hang]]"
"""A prompt that contains one of these is refused, or kills or stops the engine at its next step."""


@dataclass(frozen=True, slots=True)
class ScriptedSettings:
    """`step_seconds` is one iteration's time; `tokens` the longest answer it ends by itself.
    `counter` is a directory in which every engine counts what it decodes (`engines/counter.py`).
    """

    window: int = 64
    max_model_len: int = 2048
    tokens: int = 40
    step_seconds: float = 0.0
    hang_seconds: float = 300.0
    counter: str = ""


def kill_this_process() -> None:
    """As a segmentation fault of an engine inside this process would."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(slots=True)
class _Running:
    request: Request
    answer: tuple[int, ...]
    finish_reason: str
    mark: str | None
    tokens: list[int] = field(default_factory=list)


class ScriptedEngine:
    """Implements `Engine`; a token is a function of the prompt and its position alone."""

    def __init__(
        self,
        settings: ScriptedSettings,
        sleep: Callable[[float], None],
        own_process: bool = True,
        crash: Callable[[], None] = kill_this_process,
    ) -> None:
        self._settings = settings
        self._sleep = sleep
        self._own_process = own_process
        self._crash = crash
        self._running: dict[str, _Running] = {}
        self._count = counter_in(settings.counter)
        self._dead = False

    @property
    def own_process(self) -> bool:
        return self._own_process

    @property
    def window(self) -> int:
        return self._settings.window

    @property
    def version(self) -> str:
        return "scripted 1"

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, ChatPrompt):
            text = "\n".join(f"{m['role']}: {m['content']}" for m in prompt.messages)
        else:
            text = prompt.text
        # JSON can hold halves of surrogate pairs, which plain UTF-8 refuses.
        return tuple(text.encode("utf-8", "surrogatepass"))

    def submit(self, request: Request) -> None:
        self._refuse_when_dead()
        length = len(request.prompt_token_ids)
        prompt = bytes(token % 256 for token in request.prompt_token_ids)
        if REJECTED.encode() in prompt:
            raise RowRejected("the prompt asks to be refused")
        if length >= self._settings.max_model_len:
            raise RowRejected(
                f"the prompt has {length} tokens, the window is {self._settings.max_model_len}"
            )
        answer, reason = _answer(request, self._settings)
        mark = next((mark for mark in (HANGING, DEADLY) if mark.encode() in prompt), None)
        self._running[request.id] = _Running(request, answer, reason, mark, list(request.saved))

    def step(self) -> Sequence[Completion]:
        self._refuse_when_dead()
        self._sleep(self._settings.step_seconds)
        self._die_if_told_to()
        # Before they exist, so that nobody can have saved a token that was not counted.
        self._count(len(self._running))
        done: list[Completion] = []
        for running in list(self._running.values()):
            running.tokens.append(running.answer[len(running.tokens)])
            if len(running.tokens) == len(running.answer):
                del self._running[running.request.id]
                done.append(_completion(running))
        return done

    def in_flight(self) -> Mapping[str, Sequence[int]]:
        return {name: running.tokens for name, running in self._running.items()}

    def abort(self, request_ids: Iterable[str]) -> None:
        for name in request_ids:
            self._running.pop(name, None)

    def metrics(self) -> EngineMetrics:
        return EngineMetrics()

    def close(self) -> None:
        self._dead = True
        self._running.clear()

    def _refuse_when_dead(self) -> None:
        if self._dead:
            raise EngineDied("the engine died", why="it is dead already")

    def _die_if_told_to(self) -> None:
        marks = {running.mark for running in self._running.values()}
        if HANGING in marks:
            self._sleep(self._settings.hang_seconds)
            self._die(f"no token for {self._settings.hang_seconds:g} s")
        if DEADLY in marks:
            self._die("a prompt asked it to")

    def _die(self, words: str) -> None:
        if not self._own_process:
            self._crash()
        self._dead = True
        raise EngineDied("the engine died", why=words)


def _answer(request: Request, settings: ScriptedSettings) -> tuple[tuple[int, ...], str]:
    seed = zlib.crc32(bytes(token % 256 for token in request.prompt_token_ids))
    natural = 1 + seed % settings.tokens
    room = settings.max_model_len - len(request.prompt_token_ids)
    limit = min(request.sampling.max_tokens, room)
    tokens = tuple(
        zlib.crc32(f"{seed}:{position}".encode()) % _VOCABULARY
        for position in range(min(natural, limit))
    )
    return tokens, "stop" if natural <= limit else "length"


def _completion(running: _Running) -> Completion:
    return Completion(
        request_id=running.request.id,
        text=" ".join(f"t{token}" for token in running.tokens),
        token_ids=tuple(running.tokens),
        finish_reason=running.finish_reason,
        cached_tokens=0,
    )
