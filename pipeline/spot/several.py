"""Several sources of notices as one."""

from __future__ import annotations

from pipeline.core.notice import Notice, graver
from pipeline.core.ports import InterruptionNotice


class SeveralNotices:
    """The gravest of what its sources tell; of equally grave ones, the one that was told first."""

    def __init__(self, *sources: InterruptionNotice) -> None:
        self._sources = sources
        self._told: Notice | None = None

    def pending(self) -> Notice | None:
        for source in self._sources:
            self._told = graver(self._told, source.pending())
        return self._told
