"""Word that a machine goes, and what its worker makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

NoticeKind = Literal["risk", "reclaim", "stop"]

_RESERVE_SECONDS = 10.0
"""Kept for the drain at the most: a last checkpoint takes a second or two, a store that stumbles
some more. All was saved before, so that a store that is away costs no more than this while."""
_LEAST_SECONDS, _SAVES = 2.0, 3.0
"""Kept at the least, and in saves as slow as the slowest of late: a step may be under way when the
drain is due, then come the last checkpoint and the last beat."""


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

    def drains_at(self, seen_at: float, save_seconds: float = math.inf) -> float | None:
        """When to begin the drain, by the clock that says `seen_at`; None is never.

        `save_seconds` is how long a save has taken of late, at the most.
        """
        if self.kind == "risk":
            return None
        if self.kind == "stop" or self.seconds is None:
            return seen_at
        needed = _margin(self.seconds) + max(_LEAST_SECONDS, _SAVES * save_seconds)
        return seen_at + self.seconds - min(_RESERVE_SECONDS, needed, self.seconds * 2 / 3)

    def gone_at(self, seen_at: float) -> float | None:
        """When the drain has to be over, a margin before the promised end; None is any time."""
        if self.seconds is None:
            return None
        return seen_at + self.seconds - _margin(self.seconds)


_GRAVITY = {"risk": 1, "reclaim": 2, "stop": 3}


def graver(told: Notice | None, new: Notice | None) -> Notice | None:
    """The new notice if it is graver than the one told before, else that one."""
    return new if _gravity(new) > _gravity(told) else told


def _gravity(notice: Notice | None) -> int:
    return 0 if notice is None else _GRAVITY[notice.kind]


def _margin(seconds: float) -> float:
    """The machine may go a little sooner than promised."""
    return min(3.0, seconds / 5)
