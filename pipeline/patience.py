"""How long a store may be away before a worker gives up."""

from __future__ import annotations

import logging

from pipeline.core.errors import StoreUnavailable
from pipeline.core.ports import Clock

log = logging.getLogger("spotmill.worker")

AGAIN_SECONDS = 1.0
"""After a failure; a store may refuse faster than the loop turns."""


class Patience:
    """Counted from the last answer, by whichever errand got it."""

    def __init__(self, clock: Clock, seconds: float = 3_600.0) -> None:
        self.seconds = seconds
        self._clock = clock
        self._last_answer = clock.now()

    def answered(self) -> None:
        self._last_answer = self._clock.now()

    def bear(self, problem: Exception) -> None:
        """A store that is away is waited for, up to a bound; anything else is raised again."""
        if not isinstance(problem, StoreUnavailable):
            raise problem
        away = self._clock.now() - self._last_answer
        log.warning("store away for %.0f s: %s", away, problem)
        if away > self.seconds:
            raise problem
