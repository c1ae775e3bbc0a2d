"""One worker's way to the store, where its death or its sleep can be put at any call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from pipeline.core.ports import Body, ObjectStore

T = TypeVar("T")

Interference: TypeAlias = Callable[[int, bool], None]
"""Told the ordinal of a call, twice: before it is applied (False), and after (True)."""


class Killed(BaseException):
    """`kill -9`: no `except Exception` of the dead process sees it."""


def killed_at(ordinal: int, *, applied: bool) -> Interference:
    """The worker dies at this call, which the store still applies or does not."""

    def strike(call: int, was_applied: bool) -> None:
        if (call, was_applied) == (ordinal, applied):
            raise Killed(f"at store call {ordinal}")

    return strike


def asleep_at(ordinal: int, meanwhile: Callable[[], None]) -> Interference:
    """The worker stands still before this call while `meanwhile` happens, and then goes on."""

    def sleep(call: int, was_applied: bool) -> None:
        if (call, was_applied) == (ordinal, False):
            meanwhile()

    return sleep


def undisturbed(_call: int, _was_applied: bool) -> None:
    """Nothing happens."""


class WatchedStore:
    """`inner` as one process sees it; every call takes `seconds`. The dead call no more."""

    def __init__(
        self,
        inner: ObjectStore,
        interfere: Interference,
        sleep: Callable[[float], None],
        seconds: float,
    ) -> None:
        self._inner = inner
        self._interfere = interfere
        self._sleep = sleep
        self._seconds = seconds
        self._dead = False
        self.calls = 0

    def get(self, key: str) -> bytes | None:
        return self._watched(lambda: self._inner.get(key))

    def put(self, key: str, body: bytes) -> None:
        self._watched(lambda: self._inner.put(key, body))

    def create(self, key: str, body: Body) -> bool:
        return self._watched(lambda: self._inner.create(key, body))

    def list(self, prefix: str) -> Sequence[str]:
        return self._watched(lambda: self._inner.list(prefix))

    def delete(self, key: str) -> None:
        self._watched(lambda: self._inner.delete(key))

    def _watched(self, apply: Callable[[], T]) -> T:
        assert not self._dead, "a dead process called the store"
        ordinal = self.calls
        self.calls += 1
        try:
            self._interfere(ordinal, False)
            self._sleep(self._seconds)
            answer = apply()
            self._interfere(ordinal, True)
        except Killed:
            self._dead = True
            raise
        return answer
