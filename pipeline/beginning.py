"""A session's first beat, by which the worker's id is its own before anything is done under it."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, replace

from pipeline.core.lives import id_of_life, life_of
from pipeline.core.money import UNTOLD_PRICE, Buckets, Node, micros_of
from pipeline.core.ports import Clock
from pipeline.core.session import Session
from pipeline.core.times import earlier_by
from pipeline.ledger import Ledger

log = logging.getLogger("spotmill.worker")


@dataclass(frozen=True, slots=True)
class Begun:
    """A session as its first beat told it; at `at` by its worker's own clock."""

    session: Session
    at: float


def begin_session(
    ledger: Ledger,
    clock: Clock,
    given_id: str,
    *,
    boot_seconds: float,
    lease_seconds: float,
    nonce: str | None = None,
) -> Begun:
    """A session that was never there before: of the worker id that was given or, where that had one
    already, of one derived from it. On what machine it is, it does not tell yet. Raises
    `StoreUnavailable`."""
    began_at, now = clock.now(), clock.timestamp()
    boot_micros = micros_of(boot_seconds)
    session = Session(
        worker_id=given_id,
        beat=0,
        state="boot",
        started_at=earlier_by(now, boot_micros),
        beat_at=now,
        node=Node(),
        price=UNTOLD_PRICE,
        buckets=Buckets(boot=boot_micros),
        lease_seconds=lease_seconds,
        nonce=nonce or secrets.token_hex(8),
    )
    life = 1
    while not ledger.sessions.begin(session):
        known = max((life_of(other, given_id) for other in ledger.sessions.worker_ids()), default=0)
        # A listing may be older than the session that is in the way.
        life = max(known, life) + 1
        session = replace(session, worker_id=id_of_life(given_id, life))
    if life > 1:
        log.warning(
            "worker %s had a session before this process began, which goes on as worker %s",
            *(given_id, session.worker_id),
        )
    return Begun(session, began_at)
