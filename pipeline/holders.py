"""Whether whoever holds something still lives, by the watch of one observer."""

from __future__ import annotations

from typing import Protocol

from pipeline.core.lease import BeatWatch, may_claim
from pipeline.core.ports import Clock
from pipeline.core.session import Session
from pipeline.ledger import Ledger


class Holder(Protocol):
    """A lease of a shard, or a take of a portion."""

    @property
    def worker_id(self) -> str: ...

    @property
    def claimed_at(self) -> str: ...


class Holders:
    """Remembers whose beats it saw move. Not for two threads at once."""

    def __init__(self, ledger: Ledger, clock: Clock, lease_seconds: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._watch = BeatWatch()

    def judge(
        self, holder: Holder | None, sessions: dict[str, Session | None]
    ) -> tuple[bool, bool]:
        """Whether what it holds is free, and whether it was ever seen alive.

        `sessions` are those read in this look; the holder's is added to them.
        """
        if holder is None:
            return True, False
        worker = holder.worker_id
        if worker not in sessions:
            sessions[worker] = self._ledger.sessions.of(worker)
        session = sessions[worker]
        now = self._clock.now()
        self._watch.observe(worker, -1 if session is None else session.beat, now)
        free = may_claim(
            holder,
            holder_over=session is not None and session.over,
            silent_for=self._watch.still_for(worker, now),
            lease_seconds=self._lease_seconds,
        )
        return free, self._watch.seen_alive(worker)
