"""SIGTERM and SIGINT as a notice: Kubernetes, systemd and people announce the end this way."""

from __future__ import annotations

import os
import signal
from types import FrameType

from pipeline.core.notice import Notice


class SignalNotice:
    """The first signal asks for a drain; a second one exits at once, which is always safe.

    `grace_seconds` is how long the sender waits before it kills. Install it in the main thread,
    and not inside a Prefect flow, whose own handler it would take.
    """

    def __init__(self, grace_seconds: float | None = None) -> None:
        self._grace_seconds = grace_seconds
        self._notice: Notice | None = None

    def install(self) -> SignalNotice:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def pending(self) -> Notice | None:
        return self._notice

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._notice is not None:
            os._exit(75)
        name = signal.Signals(number).name
        self._notice = Notice("stop", f"{name} received", self._grace_seconds)


class NoNotice:
    """Somebody else listens: a Prefect flow raises its own exception into the loop."""

    def pending(self) -> Notice | None:
        return None
