"""Keeps a run's fleet going until every shard is published."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import TypeAlias

from pipeline.budget import Announce, Budget, BudgetTerms, announce_nothing
from pipeline.core.allowance import Allowance
from pipeline.core.budget import DRAIN_SECONDS
from pipeline.core.errors import (
    BudgetReached,
    PoolUnavailable,
    StoreUnavailable,
    WorkersFailed,
)
from pipeline.core.fleet import counts_as_live, gives_up, workers_to_start
from pipeline.core.lease import BEATS_IN_A_LEASE, BeatWatch
from pipeline.core.lives import newest_lives
from pipeline.core.ports import Clock, InterruptionNotice, WorkerPool
from pipeline.core.session import Session
from pipeline.departure import Departure
from pipeline.last_beats import wait_for_pool, wait_for_sessions
from pipeline.ledger import Ledger

log = logging.getLogger("spotmill.run")

Told: TypeAlias = Callable[[Mapping[str, Session], Collection[int]], None]
"""Is shown the sessions and the published shards of a tick, and must not take time."""

FATAL_ERRORS = frozenset(
    {"JobInvalid", "EngineRefused", "InputChanged", "InputInvalid", "StoreDenied"}
)
"""Errors that every worker would meet alike: one is enough to stop the run."""
_ENGINE_FAILED = "EngineFailed"
"""An engine that starts on no node is the job's fault; on one of several, that node's."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """`patience_seconds` is how long store and pool may be away before the supervisor gives up;
    workers have a patience of their own."""

    workers: int
    lease_seconds: float
    tick_seconds: float = 1.0
    patience_seconds: float = 3_600.0
    budget_usd: Decimal | None = None
    warn_usd: Decimal | None = None
    drain_seconds: float = DRAIN_SECONDS


def _new_worker_id() -> str:
    return f"w-{secrets.token_hex(4)}"


class Supervisor:
    """One supervisor of a run; several do no harm. `run` may be called once.

    `name_worker` gives every worker an id that no other ever had, and `name` is this supervisor's
    own; `announce` is told when the budget is nearly spent, and when it is.
    """

    def __init__(
        self,
        ledger: Ledger,
        shard_ids: list[int],
        pool: WorkerPool,
        clock: Clock,
        notice: InterruptionNotice,
        fleet: FleetSettings,
        name_worker: Callable[[], str] = _new_worker_id,
        told: Told = lambda _sessions, _published: None,
        announce: Announce = announce_nothing,
        name: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._shard_ids = shard_ids
        self._pool = pool
        self._clock = clock
        self._departure = Departure(notice, clock)
        self._fleet = fleet
        self._name_worker = name_worker
        self._told = told
        self._watch = BeatWatch()
        self._asked_for: dict[str, float] = {}
        self._unanswered: list[str] = []
        self._name = secrets.token_hex(4) if name is None else name
        self._allowed = count()
        self._allow_after = clock.now()
        terms = BudgetTerms(
            fleet.budget_usd, fleet.warn_usd, fleet.lease_seconds, fleet.drain_seconds
        )
        self._budget = Budget(terms, self._asked_for, announce)
        self._before: frozenset[str] | None = None
        self._failed = self._vanished = 0
        self._progress: tuple[int, int] | None = None
        self._answered = clock.now()

    def run(self) -> None:
        """Return when every shard is published and the run's workers are gone, whoever started
        them, as far as that can be waited for.

        Raises `Interrupted`, `BudgetReached` or `WorkersFailed`, after the workers were asked to
        drain: what they finished is saved in each case.
        """
        patience = 0.0
        try:
            while not self._tick_with_patience():
                self._clock.sleep(self._fleet.tick_seconds)
            wait_for_pool(self._pool, self._clock)
        except BudgetReached as reached:
            # Workers that nobody stops would spend what nobody has.
            patience = self._fleet.patience_seconds
            self._end_allowance(reached.what)
            raise
        finally:
            self._stop_workers(patience)
        wait_for_sessions(
            *(self._ledger, self._clock, self._watch, self._departure),
            lease_seconds=self._fleet.lease_seconds,
            every_seconds=self._fleet.tick_seconds,
        )

    def _end_allowance(self, reason: str) -> None:
        try:
            self._put_allowance(0.0, reason)
        except StoreUnavailable as problem:
            # They stop of themselves when the last one ends, which is about now.
            log.warning("workers could not be told to stop in the bucket: %s", problem)

    def _stop_workers(self, patience_seconds: float) -> None:
        until = self._clock.now() + patience_seconds
        while True:
            try:
                self._pool.stop()
                return
            except PoolUnavailable as problem:
                log.warning("workers could not be asked to stop: %s", problem)
            if self._clock.now() >= until:
                return
            self._departure.hear()
            if self._departure.is_due():
                return
            self._clock.sleep(self._fleet.tick_seconds)

    def _tick_with_patience(self) -> bool:
        try:
            done = self._tick()
        except (StoreUnavailable, PoolUnavailable) as problem:
            # Workers need neither supervisor nor pool to go on, and outlast a store's absence.
            away = self._clock.now() - self._answered
            if away >= self._fleet.patience_seconds:
                raise
            log.warning("away for %.0f s: %s", away, problem)
            self._budget.hold(self._clock.now())
            return False
        self._answered = self._clock.now()
        return done

    def _tick(self) -> bool:
        """One look at the run; True when every shard is published."""
        self._heed_notice()
        published = self._ledger.published()
        left = [shard_id for shard_id in self._shard_ids if shard_id not in published]
        if not left:
            return True
        began = self._clock.now()
        sessions = self._ledger.sessions.all()
        self._told(sessions, published)
        of_now = self._of_now(sessions)
        _raise_fatal(of_now, self._fleet.workers)
        self._budget.look(sessions, of_now, began, self._clock.now())
        self._budget.hold(self._clock.now())
        if self._clock.now() >= self._allow_after:
            self._allow()
        self._count_failures(len(left), sessions)
        if not self._departure.certain:
            self._start_missing(left, sessions)
        return False

    def _allow(self) -> None:
        """Say in the bucket for how long workers may go on without another word from here."""
        self._allow_after = self._clock.now() + self._fleet.lease_seconds / BEATS_IN_A_LEASE
        seconds = self._budget.allowed_seconds(self._clock.now())
        self._put_allowance(seconds, "the run's budget is spent, as far as anybody has told")

    def _put_allowance(self, seconds: float | None, reason: str) -> None:
        self._ledger.allow(Allowance(self._name, next(self._allowed), seconds, reason))

    def _heed_notice(self) -> None:
        """Workers of this machine hear of its end themselves, and use the time until then."""
        self._departure.hear()
        if self._departure.is_due():
            raise self._departure.interruption()

    def _of_now(self, sessions: Mapping[str, Session]) -> dict[str, Session]:
        """Without what earlier starts left: sessions that were there before and beat no more."""
        now = self._clock.now()
        for worker_id, session in sessions.items():
            self._watch.observe(worker_id, session.beat, now)
        if self._before is None:
            self._before = frozenset(sessions)
        return {
            worker_id: session
            for worker_id, session in sessions.items()
            if worker_id not in self._before or self._watch.seen_alive(worker_id)
        }

    def _count_failures(self, left: int, sessions: Mapping[str, Session]) -> None:
        progress = (left, sum(session.rows for session in sessions.values()))
        if progress != self._progress:
            self._failed, self._vanished, self._progress = 0, 0, progress
        newest = newest_lives(sessions, self._asked_for)
        for worker_id, end in self._pool.ended().items():
            log.info("worker %s ended%s", worker_id, f": {end.problem}" if end.problem else "")
            self._asked_for.pop(worker_id, None)
            self._unanswered = [name for name in self._unanswered if name != worker_id]
            self._budget.ended(worker_id, self._clock.now())
            if end.problem is not None:
                session = sessions.get(newest.get(worker_id, worker_id))
                explained = session is not None and session.state == "failed"
                self._failed += explained
                self._vanished += not explained
            if end.fatal:
                raise WorkersFailed(
                    end.problem or "a worker refused the job",
                    where=f"worker {worker_id}",
                    why="every worker would meet it, so the run stops",
                    hint="see the worker's own message above or in its log, and `spotmill resume`",
                )
        if gives_up(failed=self._failed, vanished=self._vanished, wanted=self._fleet.workers):
            raise WorkersFailed(
                f"{self._failed + self._vanished} workers ended without finishing a row",
                where=f"run {self._ledger.run_id}, {left} shards left",
                hint="see the workers' logs; what they finished is saved for `spotmill resume`",
            )

    def _start_missing(self, left: list[int], sessions: Mapping[str, Session]) -> None:
        epochs = self._ledger.latest_epochs()
        leases = [self._ledger.lease(s, epochs[s]) for s in left if s in epochs]
        held = [lease.worker_id for lease in leases if lease is not None]
        over = [name for name in held if name in sessions and sessions[name].over]
        live = self._live(sessions)
        helping = sum(1 for n in live - set(held) if n in sessions and sessions[n].helping)
        missing = workers_to_start(
            unclaimed=len(left) - len(held) + len(over),
            holders=len(set(held) - set(over)),
            live=len(live),
            wanted=self._fleet.workers,
            helping=helping,
        )
        missing = self._budget.starts(missing, self._clock.now())
        self._unanswered += [self._name_worker() for _ in range(missing)]
        if self._unanswered:
            self._start()

    def _start(self) -> None:
        """Ask for workers; again, by the same names, where the answer was lost."""
        now = self._clock.now()
        self._asked_for.update(dict.fromkeys(self._unanswered, now))
        # They spend from the allowance that the others have.
        self._allow()
        while self._unanswered:
            worker_id = self._unanswered[0]
            log.info("started worker %s: %s", worker_id, self._pool.start(worker_id))
            self._unanswered.pop(0)

    def _live(self, sessions: Mapping[str, Session]) -> set[str]:
        now = self._clock.now()
        # Of a worker that was started again by its pool, the newest life is the one asked for.
        newest = newest_lives(sessions, self._asked_for)
        asked_for = {newest.get(name, name): at for name, at in self._asked_for.items()}
        return {
            worker_id
            for worker_id in sessions.keys() | asked_for.keys()
            if counts_as_live(
                sessions.get(worker_id),
                asked_for=asked_for.get(worker_id),
                still_for=self._watch.still_for(worker_id, now),
                now=now,
                lease_seconds=self._fleet.lease_seconds,
            )
        }


def _raise_fatal(sessions: Mapping[str, Session], wanted: int) -> None:
    failed = {name: s for name, s in sessions.items() if s.state == "failed"}
    started_none = [name for name, s in failed.items() if s.error_kind == _ENGINE_FAILED]
    works = any(session.rows or session.state == "work" for session in sessions.values())
    engine_is_hopeless = len(started_none) >= min(2, wanted) and not works
    for worker_id, session in failed.items():
        hopeless = session.error_kind == _ENGINE_FAILED and engine_is_hopeless
        if hopeless or session.error_kind in FATAL_ERRORS:
            raise WorkersFailed(
                session.error or str(session.error_kind),
                where=f"worker {worker_id}",
                why=f"{session.error_kind}: every worker would meet it, so the run stops",
                hint="mend it and `spotmill resume`; what was finished is saved",
            )
