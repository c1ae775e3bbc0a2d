"""The one place where a request to a store is repeated."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.stop import StopBaseT, stop_before_delay
from tenacity.wait import WaitBaseT, wait_random_exponential

from pipeline.core.errors import JobInvalid, StoreUnavailable
from pipeline.core.ports import Body, ObjectStore
from pipeline.stores.bodies import same

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on, how long to wait in between, and with whose clock; tenacity's values.

    The default gives a store a minute (or `SPOTMILL_STORE_SECONDS`), waiting a random time below
    0.2, 0.4, ... 10 seconds, so that many workers do not come back at once.
    """

    stop: StopBaseT = field(default_factory=lambda: stop_before_delay(_patience_seconds()))
    wait: WaitBaseT = field(default_factory=lambda: wait_random_exponential(multiplier=0.2, max=10))
    sleep: Callable[[float], None] = time.sleep


def _patience_seconds() -> float:
    given = os.environ.get("SPOTMILL_STORE_SECONDS", "60")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise JobInvalid(
            f"{given!r} is no number of seconds",
            where="SPOTMILL_STORE_SECONDS",
            hint="set it to how long a store may be away, such as 60, or unset it",
        )
    return seconds


class RetryingStore:
    """Repeats what raised `StoreUnavailable`, up to a bound, and settles creates left in doubt."""

    def __init__(self, inner: ObjectStore, policy: RetryPolicy | None = None) -> None:
        self._inner = inner
        self._policy = policy or RetryPolicy()

    def get(self, key: str) -> bytes | None:
        return self._persist("get", key, lambda: self._inner.get(key))

    def put(self, key: str, body: bytes) -> None:
        self._persist("put", key, lambda: self._inner.put(key, body))

    def create(self, key: str, body: Body) -> bool:
        """As the port says: in doubt, the stored body decides, so racing bodies must differ."""
        in_doubt = False

        def attempt() -> bool:
            nonlocal in_doubt
            try:
                if self._inner.create(key, body):
                    return True
            except StoreUnavailable:
                in_doubt = True
                raise
            # An earlier attempt may have made the object and lost its answer.
            return in_doubt and same(self._inner.get(key), body)

        return self._persist("create", key, attempt)

    def list(self, prefix: str) -> Sequence[str]:
        return self._persist("list", prefix, lambda: self._inner.list(prefix))

    def delete(self, key: str) -> None:
        self._persist("delete", key, lambda: self._inner.delete(key))

    def _persist(self, verb: str, key: str, attempt: Callable[[], T]) -> T:
        return retrying(f"{verb} {key}", attempt, self._policy)


def retrying(what: str, attempt: Callable[[], T], policy: RetryPolicy | None = None) -> T:
    """Call until it raises no `StoreUnavailable`; at the policy's bound, raise the last one."""
    policy = policy or RetryPolicy()

    def warn(state: RetryCallState) -> None:
        logger.warning(
            "%s: attempt %d failed, next in %.1f s: %s",
            what,
            state.attempt_number,
            state.upcoming_sleep,
            _failure(state).why or _failure(state).what,
        )

    return Retrying(
        stop=policy.stop,
        wait=policy.wait,
        sleep=policy.sleep,
        retry=retry_if_exception_type(StoreUnavailable),
        before_sleep=warn,
        retry_error_callback=_give_up,
    )(attempt)


def _failure(state: RetryCallState) -> StoreUnavailable:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, StoreUnavailable)  # noqa: S101 - nothing else is retried
    return failure


def _give_up(state: RetryCallState) -> None:
    last = _failure(state)
    tried = f"tried {state.attempt_number} times in {state.seconds_since_start or 0:.0f} s"
    raise StoreUnavailable(
        last.what,
        where=last.where,
        why=f"{last.why}; {tried}" if last.why else tried,
        hint=last.hint,
    ) from last
