"""A store that misbehaves on purpose, the same way every time: for tests and simulation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeVar

from pipeline.core.errors import StoreUnavailable
from pipeline.core.ports import Body, ObjectStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a verb; `ordinal` counts every call of this store from 0."""

    verb: Literal["get", "put", "create", "list", "delete"]
    key: str
    ordinal: int


class Effect(Enum):
    NONE = "the call goes through"
    REFUSED = "nothing happens, and the caller is told so"
    TORN = "the connection breaks half-way: an atomic store has applied nothing"
    LOST = "the call is applied, and its answer is lost"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call: `seconds` of waiting first, then the effect.

    `stale` is for a `list`: it misses that many of the keys created last.
    """

    effect: Effect = Effect.NONE
    seconds: float = 0.0
    stale: int = 0


NO_FAULT = Fault()
REFUSED = Fault(Effect.REFUSED)
TORN = Fault(Effect.TORN)
LOST = Fault(Effect.LOST)

FaultPlan = Callable[[Call], Fault]


def in_turn(faults: Iterable[Fault]) -> FaultPlan:
    """The first fault for the first call, and so on; no faults once they are used up."""
    remaining = iter(faults)
    return lambda _: next(remaining, NO_FAULT)


def outage(first: int, last: int) -> FaultPlan:
    """Every call from ordinal `first` to `last`, both included, is refused."""
    return lambda call: REFUSED if first <= call.ordinal <= last else NO_FAULT


class FaultyStore:
    """`inner`, with one fault a call taken from `faults`; failures are `StoreUnavailable`.

    `faults` is asked under a lock, in the order of the calls. `sleep` is how latency passes.
    """

    def __init__(
        self,
        inner: ObjectStore,
        faults: FaultPlan,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._faults = faults
        self._sleep = sleep
        self._lock = threading.Lock()
        self._calls = 0
        self._made: list[str] = []

    def get(self, key: str) -> bytes | None:
        return self._suffer("get", key, lambda: self._inner.get(key))[0]

    def put(self, key: str, body: bytes) -> None:
        self._suffer("put", key, lambda: self._inner.put(key, body))

    def create(self, key: str, body: Body) -> bool:
        def apply() -> bool:
            made = self._inner.create(key, body)
            if made:
                with self._lock:
                    self._made.append(key)
            return made

        return self._suffer("create", key, apply)[0]

    def list(self, prefix: str) -> Sequence[str]:
        keys, fault = self._suffer("list", prefix, lambda: self._inner.list(prefix))
        with self._lock:
            unseen = set(self._made[-fault.stale :]) if fault.stale else set()
        return [key for key in keys if key not in unseen]

    def delete(self, key: str) -> None:
        self._suffer("delete", key, lambda: self._inner.delete(key))

    def _suffer(
        self,
        verb: Literal["get", "put", "create", "list", "delete"],
        key: str,
        apply: Callable[[], T],
    ) -> tuple[T, Fault]:
        with self._lock:
            fault = self._faults(Call(verb, key, self._calls))
            self._calls += 1
        if fault.seconds:
            self._sleep(fault.seconds)
        if fault.effect in (Effect.REFUSED, Effect.TORN):
            raise _failure(verb, key, fault)
        answer = apply()
        if fault.effect is Effect.LOST:
            raise _failure(verb, key, fault)
        return answer, fault


def _failure(verb: str, key: str, fault: Fault) -> StoreUnavailable:
    return StoreUnavailable(f"injected: {verb} fails", where=key, why=fault.effect.value)
