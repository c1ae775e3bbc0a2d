"""A thread that asks again and again whether a notice was given."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pipeline.core.notice import Notice, graver

log = logging.getLogger("spotmill.spot")

_LONGEST_PAUSE_SECONDS = 10.0
_CLOSE_SECONDS = 0.2


def _nothing() -> None: ...


class PolledNotice:
    """Implements `InterruptionNotice`: keeps the gravest notice `probe` has returned.

    `probe` may block, as a long poll does, and may raise anything: that counts as no notice, is
    logged once, and is tried again after a pause that doubles up to 10 s. `release` is called in
    the thread, after the last probe.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], Notice | None],
        interval_seconds: float,
        release: Callable[[], None] = _nothing,
    ) -> None:
        self._name = name
        self._probe = probe
        self._interval_seconds = interval_seconds
        self._release = release
        self._notice: Notice | None = None
        self._closing = threading.Event()
        self._complained = False
        # A daemon, since a long poll may hang for a minute after the worker is done.
        self._thread = threading.Thread(target=self._poll, name=f"notices-{name}", daemon=True)

    def start(self) -> PolledNotice:
        self._thread.start()
        return self

    def pending(self) -> Notice | None:
        return self._notice

    def close(self) -> None:
        """Ask no more. A probe that hangs is left behind, and what it returns is ignored."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)

    def _poll(self) -> None:
        failures = 0
        try:
            while not self._closing.is_set():
                failures = 0 if self._ask() else failures + 1
                self._closing.wait(self._pause_seconds(failures))
        finally:
            self._release()

    def _ask(self) -> bool:
        try:
            new = self._probe()
        except Exception as problem:
            self._complain(problem)
            return False
        told = self._notice
        if not self._closing.is_set():
            self._notice = graver(told, new)
        if self._notice is not None and self._notice is not told:
            _announce(self._name, self._notice)
        return True

    def _pause_seconds(self, failures: int) -> float:
        if not failures:
            return self._interval_seconds
        first = max(self._interval_seconds, 0.1)
        return max(first, min(_LONGEST_PAUSE_SECONDS, first * 2.0 ** min(failures - 1, 10)))

    def _complain(self, problem: Exception) -> None:
        if self._complained or self._closing.is_set():
            return
        self._complained = True
        log.warning(
            "notices of %s cannot be read, which is said once and tried again: %s",
            self._name,
            str(problem) or repr(problem),
        )


def _announce(name: str, notice: Notice) -> None:
    left = "" if notice.seconds is None else f", {notice.seconds:.0f} s left"
    log.warning("%s: %s (%s%s)", name, notice.reason, notice.kind, left)
