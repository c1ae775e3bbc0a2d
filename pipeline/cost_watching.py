"""A run's cost per thousand tokens, watched against earlier runs of its job and its own past."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pipeline.budget import Announce, announce_nothing
from pipeline.core.cost_watch import Usage, effects, jump_limit, typical, usage_of_run
from pipeline.core.cost_watch import usage_of_session as usage_of
from pipeline.core.money import decimal_text
from pipeline.core.session import Session
from pipeline.job_runs import CompleteRun

log = logging.getLogger("spotmill.run")

_MOST_RUNS = 10
_MOST_WINDOWS = 24
_OWN_WINDOWS = 3
"""As many as there have to be, before a run is compared with itself."""
_LONGEST = 4.0
"""Windows last, at which a window ends however few its tokens: that may be why they are dear."""
_TOLD_FACTOR = 1.1
"""Of the lesser causes, those that are told of beside the first."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a run is looked at at once: long enough for a start or two to be no jump."""

    seconds: float = 300.0
    tokens: int = 10_000
    in_a_row: int = 2


@dataclass(slots=True)
class CostWatch:
    """Tells once of each jump, when `in_a_row` windows are beyond the limit; again only after a
    window that was not. A run with unknown prices is not watched.

    `earlier` is asked once, for what earlier runs used; that it fails is no reason not to run.
    """

    earlier: Callable[[], Sequence[Usage]] = list
    announce: Announce = announce_nothing
    window: Window = Window()
    _history: list[Usage] | None = None
    _own: list[Usage] = field(default_factory=list)
    _mark: tuple[float, Usage] | None = None
    _dear: int = 0

    def remember(self) -> Sequence[Usage]:
        """Earlier runs, asked for now unless they were: best before anybody waits for it."""
        if self._history is None:
            try:
                self._history = [run for run in self.earlier() if run.is_telling]
            except Exception as problem:
                log.warning("earlier runs are not compared with: %s", problem)
                self._history = []
        return self._history

    def look(self, sessions: Iterable[Session], now: float) -> None:
        """Take in the run's sessions, as they are at `now` by this observer's clock."""
        seconds = 0.0 if self._mark is None else now - self._mark[0]
        if self._mark is not None and seconds < self.window.seconds:
            return
        known = list(sessions)
        total = sum((usage_of(session) for session in known), Usage())
        if self._mark is None:
            # Every run begins with loads; what is watched begins when the first is over.
            if any(session.state == "work" for session in known):
                self._mark = now, total
            return
        used = total - self._mark[1]
        if used.decoded < self.window.tokens and seconds < _LONGEST * self.window.seconds:
            return
        self._mark = now, total
        if used.is_telling:
            self._judge(used)

    def _judge(self, used: Usage) -> None:
        own = self._own if len(self._own) >= _OWN_WINDOWS else []
        for past, of in ((self.remember(), "of earlier runs"), (own, "of this run before")):
            if past and used.usd_per_1k > jump_limit([usage.usd_per_1k for usage in past]):
                self._dear += 1
                if self._dear == self.window.in_a_row:
                    self._raise(typical(past), used, of)
                return
        self._dear = 0
        self._own = [*self._own, used][-_MOST_WINDOWS:]

    def _raise(self, before: Usage, used: Usage, of: str) -> None:
        cause, *others = effects(before, used)
        ratio = float(used.usd_per_1k / before.usd_per_1k)
        also = [str(effect) for effect in others if effect.factor >= _TOLD_FACTOR]
        sentence = (
            f"1,000 output tokens cost {used.usd_per_1k:.6f} USD, {ratio:.2f} times the "
            f"{before.usd_per_1k:.6f} {of}; likely cause: {cause}"
        )
        sentence += f"; also {', '.join(also)}" if also else ""
        log.warning("%s", sentence)
        figures: dict[str, Any] = {
            "cause": cause.cause,
            "usd_per_1k": decimal_text(used.usd_per_1k),
            "usd_per_1k_before": decimal_text(before.usd_per_1k),
            "ratio": round(ratio, 3),
            "compared_with": of,
            "factors": {e.cause: round(e.factor, 3) for e in (cause, *others)},
        }
        self.announce("cost-jump", sentence, figures)


def earlier_usages(runs: Iterable[CompleteRun]) -> list[Usage]:
    """What the latest of a job's complete runs used, the oldest first; `runs` come newest first."""
    latest = [usage_of_run(run.manifest) for run in islice(runs, _MOST_RUNS)]
    return latest[::-1]
