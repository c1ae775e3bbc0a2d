"""Whether a worker that lost a shard was dead, or merely slow: known later, if at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipeline.core.checkpoint import Attempt
from pipeline.core.session import Session
from pipeline.core.spans import all_seconds
from pipeline.ledger import Ledger


def as_they_ended(ledger: Ledger, shard_id: int, attempts: Iterable[Attempt]) -> list[Attempt]:
    """A shard's attempts as a successor found them, by what sessions say by now: what is called
    lost was superseded where the worker lived on after the successor's claim (DESIGN §4.5)."""
    return [
        replace(attempt, end="superseded")
        if attempt.end == "lost"
        and not attempt.portion
        and (session := ledger.sessions.of(attempt.worker_id)) is not None
        and _lived_on(session, shard_id, attempt)
        else attempt
        for attempt in attempts
    ]


def _lived_on(session: Session, shard_id: int, attempt: Attempt) -> bool:
    """It says that it found the shard to be another's; or it has beaten on, and tells of seconds
    that the successor, who thought it dead, did not see. No two clocks are compared for that."""
    dropped = session.dropped.get(shard_id)
    if dropped is not None and dropped.epoch == attempt.epoch:
        return True
    seen = all_seconds(attempt.lived).total
    return 0 < seen < session.buckets.total
