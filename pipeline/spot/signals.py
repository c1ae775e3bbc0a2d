"""SIGTERM and SIGINT as a notice: Kubernetes, systemd and people announce the end this way."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping
from types import FrameType

from pipeline.core.errors import JobInvalid
from pipeline.core.notice import Notice

GRACE = "SPOTMILL_GRACE_SECONDS"
_POD_GRACE_SECONDS = 30.0
"""Kubernetes' default `terminationGracePeriodSeconds`."""

_ECHO_SECONDS = {signal.SIGTERM: 3.0, signal.SIGINT: 0.5}
"""One stop can arrive twice: systemd and terminals signal a whole group at once, in which a parent
passes the signal on: a wrapper at once, a supervisor at its next tick. Somebody who presses Ctrl-C
again waits longer than a machine; platforms that lose patience send SIGKILL."""


def in_a_pod(environment: Mapping[str, str]) -> bool:
    return "KUBERNETES_SERVICE_HOST" in environment


def grace_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """How long whoever sends SIGTERM waits before SIGKILL; None is unknown. Raises `JobInvalid`.

    `SPOTMILL_GRACE_SECONDS`, or in a Kubernetes pod without it, 30.
    """
    given = environment.get(GRACE)
    if not given:
        return _POD_GRACE_SECONDS if in_a_pod(environment) else None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise JobInvalid(
            f"{given!r} is no number of seconds",
            where=GRACE,
            hint="set it to the platform's wait between SIGTERM and SIGKILL, such as 30, "
            "or unset it",
        )
    return seconds


class SignalNotice:
    """The first signal asks for a drain; a second one exits at once, which is always safe.

    A second one that comes so soon that it must be the first one's echo is passed over.
    `grace_seconds` is how long the sender of a SIGTERM waits before it kills; nobody waits after
    Ctrl-C. Install it in the main thread, and not inside a Prefect flow, whose own handler it
    would take.
    """

    def __init__(self, grace_seconds: float | None = None) -> None:
        self._grace_seconds = grace_seconds
        self._notice: Notice | None = None
        self._first_at = -math.inf

    def install(self) -> SignalNotice:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def pending(self) -> Notice | None:
        return self._notice

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now, kind = time.monotonic(), signal.Signals(number)
        if self._notice is not None:
            if now - self._first_at > _ECHO_SECONDS[kind]:
                os._exit(75)
            return
        self._first_at = now
        seconds = self._grace_seconds if kind == signal.SIGTERM else None
        self._notice = Notice("stop", f"{kind.name} received", seconds)


class NoNotice:
    """Somebody else listens: a Prefect flow raises its own exception into the loop."""

    def pending(self) -> Notice | None:
        return None
