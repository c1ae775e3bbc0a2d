"""What a process was told of its end, and what it makes of it."""

from __future__ import annotations

import logging
import math

from pipeline.core.errors import Interrupted
from pipeline.core.notice import Notice
from pipeline.core.ports import Clock, InterruptionNotice

log = logging.getLogger("spotmill")


class Departure:
    """The gravest notice heard here so far, and when it was first heard. One thread asks."""

    def __init__(self, notices: InterruptionNotice, clock: Clock) -> None:
        self._notices = notices
        self._clock = clock
        self._heard: tuple[Notice, float] | None = None

    def hear(self) -> bool:
        """Ask; whether there is something that was not told before."""
        notice = self._notices.pending()
        if notice is None or (self._heard is not None and self._heard[0] == notice):
            return False
        self._heard = (notice, self._clock.now())
        log.warning("notice: %s", notice.reason)
        return True

    @property
    def told_to_stop(self) -> bool:
        """Whether somebody wants this process gone, heard before or not."""
        notice = self._notices.pending()
        return notice is not None and notice.kind == "stop"

    @property
    def certain(self) -> bool:
        """Whether what was heard is more than a risk."""
        return self._heard is not None and self._heard[0].kind != "risk"

    def is_due(self, save_seconds: float = math.inf, within_seconds: float = 0.0) -> bool:
        """Whether the drain has to begin in the seconds given, if a save takes `save_seconds`."""
        if self._heard is None:
            return False
        notice, heard_at = self._heard
        drains_at = notice.drains_at(heard_at, save_seconds)
        return drains_at is not None and self._clock.now() >= drains_at - within_seconds

    def seconds_left(self, unless_told: float) -> float:
        """Until the drain has to be over, one second at the least."""
        gone_at = None if self._heard is None else self._heard[0].gone_at(self._heard[1])
        return unless_told if gone_at is None else max(1.0, gone_at - self._clock.now())

    def interruption(self) -> Interrupted:
        reason = "interrupted" if self._heard is None else self._heard[0].reason
        return Interrupted(reason, hint="`spotmill resume` goes on from here")
