"""For how long a run's workers may go on, as its supervisor said last (decision 025)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Allowance:
    """All workers may go on for `seconds` from when it was written; None is without end, 0 is a
    stop. `supervisor` and `number`, which grows, tell one from another."""

    supervisor: str
    number: int
    seconds: float | None
    reason: str

    def is_older_than(self, other: Allowance) -> bool:
        """Whether it can only have come late. Of two supervisors' nobody can tell."""
        return self.supervisor == other.supervisor and self.number < other.number


@dataclass(frozen=True, slots=True)
class Leave:
    """What a worker makes of what it read, by its own monotonic clock: it may go on until
    `ends_at`."""

    allowance: Allowance | None = None
    asked_at: float | None = None
    ends_at: float = math.inf

    def after(self, found: Allowance | None, asked_at: float, lease_seconds: float) -> Leave:
        """What it is once an answer has come to the question of `asked_at`.

        An allowance is no older than the last question before it. Where there was none for half a
        lease, it may be of any age, and counts for a lease at the most until another one comes.
        """
        if self.asked_at is not None and asked_at < self.asked_at:
            return self
        last, known = self.asked_at, self.allowance
        now = replace(self, asked_at=asked_at)
        if found is None or found == known or (known and found.is_older_than(known)):
            return now
        seconds = math.inf if found.seconds is None else found.seconds
        fresh = last is not None and asked_at - last < lease_seconds / 2
        if not fresh and found.seconds is not None:
            seconds = min(seconds, lease_seconds)
        return replace(now, allowance=found, ends_at=asked_at + seconds)
