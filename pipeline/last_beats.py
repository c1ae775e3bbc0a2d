"""What a supervisor waits for between the last publication and the closing of the books.

A worker's last beat completes its bill. What it spends after the closing is in no book.
"""

from __future__ import annotations

import logging

from pipeline.core.errors import PoolUnavailable, StoreUnavailable
from pipeline.core.lease import BeatWatch
from pipeline.core.ports import Clock, WorkerPool
from pipeline.departure import Departure
from pipeline.ledger import Ledger

log = logging.getLogger("spotmill.run")

_OWN_SECONDS = 60.0
_OTHERS_SECONDS = 600.0
"""A worker that loads a model for a shard which is published by then hears of it when it has."""


def wait_for_pool(pool: WorkerPool, clock: Clock) -> None:
    """Workers end by themselves when nothing is left: until the pool has none, or for a minute."""
    deadline = clock.now() + _OWN_SECONDS
    while pool.running() and clock.now() < deadline:
        try:
            pool.ended()
        except PoolUnavailable as problem:
            log.warning("pool: %s", problem)
        clock.sleep(0.1)


def wait_for_sessions(
    ledger: Ledger,
    clock: Clock,
    watch: BeatWatch,
    departure: Departure,
    lease_seconds: float,
    every_seconds: float,
) -> None:
    """Until every session of the run, whoever started it, is over or has stood still for a lease.

    `watch` knows for how long they have stood still already. Those that live on for ten minutes,
    or longer than this machine, are not waited for.
    """
    deadline = clock.now() + _OTHERS_SECONDS
    named: frozenset[str] = frozenset()
    while True:
        try:
            alive = _alive(ledger, clock, watch, lease_seconds)
        except StoreUnavailable as problem:
            log.warning("sessions: %s", problem)
        else:
            if not alive:
                return
            if alive != named:
                log.info("every shard is published; waiting for %s", ", ".join(sorted(alive)))
                named = alive
        departure.hear()
        if clock.now() >= deadline or departure.is_due():
            log.warning(
                "closing the books while %s may live: what is spent from now on is in none",
                ", ".join(sorted(named)) or "workers that the store does not tell of",
            )
            return
        clock.sleep(every_seconds)


def _alive(ledger: Ledger, clock: Clock, watch: BeatWatch, lease_seconds: float) -> frozenset[str]:
    """Those that are not over, as far as this clock tells."""
    now = clock.now()
    sessions = ledger.sessions.all()
    for worker_id, session in sessions.items():
        watch.observe(worker_id, session.beat, now)
    return frozenset(
        worker_id
        for worker_id, session in sessions.items()
        if not session.over and watch.still_for(worker_id, now) < lease_seconds
    )
