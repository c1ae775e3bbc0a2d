"""Word that a machine goes, and what its worker makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NoticeKind = Literal["risk", "reclaim", "stop"]

_RESERVE_SECONDS = 10.0
"""Kept for the drain: a last checkpoint takes a second or two, a store that stumbles some more.
All was saved when the notice came, so that a store that is away costs no more than this while."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Why a worker may have to stop, and how long it was promised when it was told.

    `risk`: the machine may be taken; save now and go on. `reclaim`: it will be taken in `seconds`;
    save now and use what is left. `stop`: somebody wants this worker gone; drain now, and be done
    within `seconds`. None seconds: nobody said how many.
    """

    kind: NoticeKind
    reason: str
    seconds: float | None = None

    @property
    def reserve(self) -> float:
        """Seconds before the end at which the drain has to begin."""
        if self.seconds is None:
            return _RESERVE_SECONDS
        return min(_RESERVE_SECONDS, self.seconds * 2 / 3)

    def drains_at(self, seen_at: float) -> float | None:
        """When to begin the drain, by the clock that says `seen_at`; None is never."""
        if self.kind == "risk":
            return None
        if self.kind == "stop" or self.seconds is None:
            return seen_at
        return seen_at + self.seconds - self.reserve

    def gone_at(self, seen_at: float) -> float | None:
        """When the drain has to be over, a margin before the promised end; None is any time."""
        if self.seconds is None:
            return None
        return seen_at + self.seconds - min(3.0, self.seconds / 5)
