"""Several sources of notices as one."""

from __future__ import annotations

from pipeline.core.notice import Notice
from pipeline.core.ports import InterruptionNotice

_GRAVITY = {"risk": 1, "reclaim": 2, "stop": 3}


def graver(told: Notice | None, new: Notice | None) -> Notice | None:
    """The new notice if it is graver than the one told before, else that one."""
    return new if _gravity(new) > _gravity(told) else told


def _gravity(notice: Notice | None) -> int:
    return 0 if notice is None else _GRAVITY[notice.kind]


class SeveralNotices:
    """The gravest of what its sources tell; of equally grave ones, the one that was told first."""

    def __init__(self, *sources: InterruptionNotice) -> None:
        self._sources = sources
        self._told: Notice | None = None

    def pending(self) -> Notice | None:
        for source in self._sources:
            self._told = graver(self._told, source.pending())
        return self._told
