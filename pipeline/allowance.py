"""What a worker hears of its run's money: looked for in the bucket, beside its loop."""

from __future__ import annotations

from pipeline.core.allowance import Leave
from pipeline.core.notice import Notice
from pipeline.core.ports import Clock
from pipeline.ledger import Ledger


class AllowanceNotice:
    """Implements `InterruptionNotice`: a stop, once the run's allowance has ended. Any thread may
    `look`."""

    def __init__(self, ledger: Ledger, clock: Clock, lease_seconds: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._leave = Leave()

    def look(self) -> None:
        """Ask the store; raises what it raises."""
        asked_at = self._clock.now()
        found = self._ledger.allowance()
        self._leave = self._leave.after(found, asked_at, self._lease_seconds)

    def pending(self) -> Notice | None:
        leave = self._leave
        if leave.allowance is None or self._clock.now() < leave.ends_at:
            return None
        return Notice("stop", leave.allowance.reason)
