"""A run's cost per thousand tokens, watched against earlier runs of its job and its own past."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.budget import Announce, announce_nothing
from pipeline.core.cost_watch import TOLD_FACTOR, effects, is_jump, is_unproductive_jump, typical
from pipeline.core.lease import BeatWatch
from pipeline.core.money import MICROS_PER_SECOND, decimal_text
from pipeline.core.session import Session
from pipeline.core.usage import Usage, start_of_session, usage_of_session
from pipeline.cost_past import CostPast

log = logging.getLogger("spotmill.run")

_MOST_WINDOWS = 24
_OWN_WINDOWS = 3
"""As many as there have to be, before a run is compared with itself."""
_LONGEST = 4.0
"""Windows last, at which a window ends however few its tokens: that may be why they are dear."""
_LEAST_USEFUL = 0.5
"""Of a window's seconds, counted over all workers: with fewer useful ones it goes on."""
_HOUR, _NIGHT = 12, 96
"""Windows over which starts, waste and waits are looked at together."""
_OF_A_RUN = 24
"""Windows that fit into a run, as far as its job's earlier ones tell how long it takes."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a run is looked at at once."""

    seconds: float = 300.0
    tokens: int = 10_000
    in_a_row: int = 2


def window_after(past: CostPast, lease_seconds: float) -> Window:
    """Five minutes, or less where the job's runs are short; but no less than a lease, of which a
    beat may be a quarter old."""
    if past.run_seconds is None:
        return Window()
    return Window(min(Window().seconds, max(lease_seconds, past.run_seconds / _OF_A_RUN)))


class _Mark(NamedTuple):
    """What a run had used `at` some time, and beside that in the `first` starts of its fleet."""

    at: float
    used: Usage
    first: Usage


@dataclass(slots=True)
class _Meter:
    """Adds up what sessions used. The first `workers` starts are kept apart: every run has them."""

    workers: int
    _beats: BeatWatch = field(default_factory=BeatWatch)
    _before: frozenset[str] | None = None
    _used: dict[str, Usage] = field(default_factory=dict)
    _fleet: set[str] = field(default_factory=set)
    _first: Usage = Usage()
    _told_unpriced: bool = False

    def see(self, sessions: Sequence[Session], now: float) -> None:
        for session in sessions:
            self._beats.observe(session.worker_id, session.beat, now)
        if self._before is None:
            self._before = frozenset(session.worker_id for session in sessions)

    def lives(self, session: Session) -> bool:
        """Whether it is of this start of the run: who was killed before still says that it works.
        Of a session that was seen."""
        known = self._before is not None and session.worker_id in self._before
        return not known or self._beats.seen_alive(session.worker_id)

    def read(self, sessions: Sequence[Session], now: float) -> _Mark:
        for session in sessions:
            self._take_in(session, now)
        return _Mark(now, sum(self._used.values(), Usage()) - self._first, self._first)

    def _take_in(self, session: Session, now: float) -> None:
        worker_id = session.worker_id
        silent = self._beats.still_for(worker_id, now) >= session.lease_seconds > 0
        if session.only_loaded and not session.over and not silent:
            # A start counts whole, when it is over: before, nobody knows how long it takes.
            return
        usage = usage_of_session(session)
        if usage.usd is None:
            self._tell_unpriced(worker_id)
            return
        works = not session.only_loaded and self.lives(session)
        if works and worker_id not in self._fleet and len(self._fleet) < self.workers:
            self._fleet.add(worker_id)
            if worker_id not in self._used:
                self._first += start_of_session(session)
        self._used[worker_id] = usage

    def _tell_unpriced(self, worker_id: str) -> None:
        if not self._told_unpriced:
            self._told_unpriced = True
            log.warning(
                "what tokens cost is not watched on workers whose price is unknown: %s is one",
                worker_id,
            )


@dataclass(slots=True)
class CostWatch:
    """Tells once of each jump; again only after some time without one.

    What tokens cost in useful time is looked at window by window: a jump is `in_a_row` of them
    beyond the limit. Starts, waste and waits come in ones and take minutes each, so they are looked
    at over hours, and are a jump when chance would not make as many. The first `workers` starts are
    none, and sessions with an unknown price are not watched.
    """

    past: CostPast = CostPast()
    announce: Announce = announce_nothing
    window: Window = Window()
    workers: int = 1
    _meter: _Meter = field(init=False)
    _marks: deque[_Mark] = field(default_factory=lambda: deque(maxlen=_NIGHT + 1))
    _began: _Mark | None = None
    _windows: int = 0
    _own: list[Usage] = field(default_factory=list)
    _dear: int = 0
    _calm: int = _HOUR

    def __post_init__(self) -> None:
        self._meter = _Meter(self.workers)

    def look(self, sessions: Iterable[Session], now: float) -> None:
        """Take in the run's sessions, as they are at `now` by this observer's clock."""
        known = list(sessions)
        self._meter.see(known, now)
        if self._began is None:
            if any(session.state == "work" and self._meter.lives(session) for session in known):
                self._began = self._meter.read(known, now)
                self._marks.append(self._began)
        elif now - self._marks[-1].at >= self.window.seconds:
            self._marks.append(self._meter.read(known, now))
            self._judge_useful_time(self._began)
            self._judge_other_time()

    def _judge_useful_time(self, began: _Mark) -> None:
        end = self._marks[-1]
        used, seconds = end.used - began.used, end.at - began.at
        full = used.decoded >= self.window.tokens or seconds >= _LONGEST * self.window.seconds
        # Of a few seconds at the end of a load nothing follows.
        least = _LEAST_USEFUL * self.window.seconds * MICROS_PER_SECOND
        if not full or used.buckets.useful < least:
            return
        self._began = end
        if not used.is_telling:
            return
        work = used.working
        earlier = [usage.working for usage in self.past.usages]
        own = self._own if len(self._own) >= _OWN_WINDOWS else []
        for past, whose in ((earlier, _EARLIER), (own, _OWN)):
            if past and is_jump(past, work):
                self._dear += 1
                if self._dear == self.window.in_a_row:
                    self._tell(past, work, whose, "of useful time")
                return
        self._dear = 0
        self._own = [*self._own, work][-_MOST_WINDOWS:]

    def _judge_other_time(self) -> None:
        jump = next(self._unproductive_jumps(), None)
        if jump is None:
            self._calm += 1
            return
        if self._calm >= _HOUR:
            self._tell(*jump)
        self._calm = 0

    def _unproductive_jumps(self) -> Iterator[tuple[Sequence[Usage], Usage, str, str]]:
        end = self._marks[-1]
        for windows in (_HOUR, _NIGHT):
            back = min(windows, len(self._marks) - 1)
            begin = self._marks[-1 - back]
            used = end.used - begin.used
            if back < self.window.in_a_row or not used.is_telling:
                continue
            own = begin.used + begin.first
            has_past = len(self._marks) - 1 - back >= _OWN_WINDOWS and own.is_telling
            what = f"in all over {(end.at - begin.at) / 60:.0f} minutes"
            for past, whose in ((self.past.usages, _EARLIER), ([own] * has_past, _OWN)):
                if past and is_unproductive_jump(past, used):
                    yield past, used, whose, what

    def _tell(self, past: Sequence[Usage], used: Usage, whose: str, what: str) -> None:
        before = typical(past)
        cause, *others = effects(before, used)
        ratio = float(used.usd_per_1k / before.usd_per_1k)
        also = [str(effect) for effect in others if effect.factor >= TOLD_FACTOR]
        sentence = (
            f"1,000 generated tokens cost {used.usd_per_1k:.6f} USD {what}, {ratio:.2f} times the "
            f"{before.usd_per_1k:.6f} {whose}; likely cause: {cause}"
        )
        sentence += f"; also {', '.join(also)}" if also else ""
        log.warning("%s", sentence)
        figures: dict[str, Any] = {
            "cause": cause.cause,
            "usd_per_1k": decimal_text(used.usd_per_1k),
            "usd_per_1k_before": decimal_text(before.usd_per_1k),
            "ratio": round(ratio, 3),
            "counted": what,
            "compared_with": whose,
            "factors": {e.cause: round(e.factor, 3) for e in (cause, *others)},
        }
        self.announce("cost-jump", sentence, figures)


_EARLIER, _OWN = "of earlier runs", "of this run before"
