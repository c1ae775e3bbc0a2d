"""The real clock behind the port, and how long this process has been at it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import psutil

STARTED_ANEW = "SPOTMILL_STARTED_ANEW"
"""When this very process became another command, in seconds since 1970."""


def seconds_alive() -> float:
    """Since this command was started; where it started itself anew, since then."""
    started = os.environ.get(STARTED_ANEW)
    return time.time() - (float(started) if started else psutil.Process().create_time())


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def timestamp(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
