"""SIGTERM and SIGINT as a notice: Kubernetes, systemd and people announce the end this way."""

from __future__ import annotations

import os
import signal
from types import FrameType


class SignalNotice:
    """The first signal asks for a drain; a second one exits at once, which is always safe.

    Install it in the main thread, and not inside a Prefect flow, whose own handler it would take.
    """

    def __init__(self) -> None:
        self._reason: str | None = None

    def install(self) -> SignalNotice:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        return self

    def pending(self) -> str | None:
        return self._reason

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._reason is not None:
            os._exit(75)
        self._reason = f"{signal.Signals(number).name} received"


class NoNotice:
    """Somebody else listens: a Prefect flow raises its own exception into the loop."""

    def pending(self) -> str | None:
        return None
