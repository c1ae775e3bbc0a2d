"""How long a run's workers take to start, as one observer sees it: a start is paid for whether or
not it comes to anything, and while a worker loads it may not hear that it is to stop."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.core.money import MICROS_PER_SECOND, micros_of
from pipeline.core.session import Session


@dataclass(slots=True)
class StartTimes:
    """By session: microseconds of boot, and of boot and load as first seen of one that had begun to
    work; and since when, by the observer's clock, one that had begun loads another engine."""

    _boots: dict[str, int] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)
    _loads_since: dict[str, float] = field(default_factory=dict)

    def see(self, session: Session, now: float) -> None:
        worker_id = session.worker_id
        self._boots[worker_id] = session.buckets.boot
        if session.only_loaded:
            return
        self._starts.setdefault(worker_id, _start_micros(session))
        if session.state == "load":
            self._loads_since.setdefault(worker_id, now)
        else:
            self._loads_since.pop(worker_id, None)

    @property
    def boot_seconds(self) -> float:
        """What a worker has spent before its first beat, going by the longest boot of this run: one
        that waits for its machine spends nothing."""
        return max(self._boots.values(), default=0) / MICROS_PER_SECOND

    @property
    def seconds(self) -> float:
        """The longest that a worker of this run has taken to boot and load; 0 before one has."""
        return max(self._starts.values(), default=0) / MICROS_PER_SECOND

    def left_of(self, begun_seconds: float) -> float:
        """For how long a start that began so long ago may still go on."""
        return max(0.0, self.seconds - begun_seconds)

    def deaf_seconds(self, session: Session, lived: float, now: float) -> float:
        """For how long a worker that has lived for so long may still be busy with a load."""
        if session.only_loaded:
            return self.left_of(lived)
        since = self._loads_since.get(session.worker_id)
        return 0.0 if since is None else self.left_of(now - since)


def _start_micros(session: Session) -> int:
    """Of one start, however many engines the session has loaded since: a row that kills engines
    takes a dozen of them."""
    boot, load = session.buckets.boot, session.buckets.load
    if session.start is None:
        return boot + load
    newest = session.start.fetch_seconds + session.start.load_seconds
    return boot + min(load, micros_of(newest))
