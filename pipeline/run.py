"""A run's supervision: record the plan, keep workers going, finish the books."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from pipeline.core.errors import (
    BudgetReached,
    InputChanged,
    Interrupted,
    RunConflict,
    WorkersFailed,
)
from pipeline.core.fleet import gives_up, workers_to_start
from pipeline.core.manifest import CURRENCY, Provenance, run_manifest
from pipeline.core.money import decimal_of, decimal_text, sum_of
from pipeline.core.ports import Clock, InterruptionNotice, WorkerPool
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.ledger import Ledger

log = logging.getLogger("spotmill.run")

Json = dict[str, Any]

_LAST_BEAT_SECONDS = 60.0

FATAL_ERRORS = frozenset(
    {"JobInvalid", "EngineRefused", "EngineFailed", "InputChanged", "InputInvalid", "StoreDenied"}
)
"""Errors that every worker would meet alike: one is enough to stop the run."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    workers: int
    tick_seconds: float = 1.0
    budget_usd: Decimal | None = None


def join_run(ledger: Ledger, document: Json) -> Json:
    """Make the run, or join the one of this name. Raises `RunConflict` and `InputChanged`."""
    known = ledger.create_job(document)
    ours, theirs = document["fingerprints"], known["fingerprints"]
    if ours["settings"] != theirs["settings"]:
        raise RunConflict(
            f"run {ledger.run_id!r} belongs to a job with other settings",
            where=document["job"]["output"]["uri"],
            why="its input, model, sampling or shards section differs from this job's",
            hint="name another run with --run-id, or another output.uri",
        )
    if ours["input"] != theirs["input"]:
        raise InputChanged(
            f"the input is not the one that run {ledger.run_id!r} was planned from",
            where=document["job"]["input"]["uri"],
            hint="put the planned files back, or start a new run with --run-id",
        )
    return known


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Keeps a run's fleet going until every shard is published."""

    ledger: Ledger
    shards: Sequence[Shard]
    pool: WorkerPool
    clock: Clock
    notice: InterruptionNotice
    fleet: FleetSettings

    def run(self) -> None:
        """Return when every shard is published and the workers are gone.

        Raises `Interrupted`, `BudgetReached` or `WorkersFailed`, after the workers were asked to
        drain: what they finished is saved in each case.
        """
        try:
            self._until_published()
        except BaseException:
            self.pool.stop()
            raise
        self._wait_for_last_beats()

    def _until_published(self) -> None:
        before = {name for name, session in self.ledger.sessions().items() if session.over}
        failures, left_before = 0, len(self.shards)
        while left := self._unpublished():
            if reason := self.notice.pending():
                raise Interrupted(reason, hint="`spotmill resume` goes on from here")
            sessions = self.ledger.sessions()
            _raise_fatal(session for name, session in sessions.items() if name not in before)
            _hold_budget(sessions, self.fleet.budget_usd)
            failures = self._count_failures() + (failures if len(left) == left_before else 0)
            left_before = len(left)
            if gives_up(failures_without_progress=failures, wanted=self.fleet.workers):
                raise WorkersFailed(
                    f"{failures} workers ended without publishing a shard",
                    where=f"run {self.ledger.run_id}, {len(left)} shards left",
                    hint="see the workers' logs; what they finished is saved for `spotmill resume`",
                )
            self._start_missing(left, sessions)
            self.clock.sleep(self.fleet.tick_seconds)

    def _unpublished(self) -> list[int]:
        published = self.ledger.published()
        return [shard.id for shard in self.shards if shard.id not in published]

    def _count_failures(self) -> int:
        ended = self.pool.ended()
        for name, problem in ended.items():
            log.info("%s ended%s", name, f": {problem}" if problem else "")
        return sum(problem is not None for problem in ended.values())

    def _start_missing(self, left: Sequence[int], sessions: Mapping[str, Session]) -> None:
        epochs = self.ledger.latest_epochs()
        leases = [self.ledger.lease(s, epochs[s]) for s in left if s in epochs]
        held = [lease.worker_id for lease in leases if lease is not None]
        over = [name for name in held if name in sessions and sessions[name].over]
        missing = workers_to_start(
            unclaimed=len(left) - len(held) + len(over),
            holders=len(set(held) - set(over)),
            live=self.pool.running(),
            wanted=self.fleet.workers,
        )
        for _ in range(missing):
            log.info("started worker: %s", self.pool.start())

    def _wait_for_last_beats(self) -> None:
        """Workers end by themselves when nothing is left; their last beat completes their bill."""
        deadline = self.clock.now() + _LAST_BEAT_SECONDS
        while self.pool.running() and self.clock.now() < deadline:
            self.clock.sleep(0.1)
        self.pool.stop()


def _raise_fatal(sessions: Iterable[Session]) -> None:
    for session in sessions:
        if session.state == "failed" and session.error_kind in FATAL_ERRORS:
            raise WorkersFailed(
                session.error or session.error_kind,
                where=f"worker {session.worker_id}",
                why=f"{session.error_kind}: every worker would meet it, so the run stops",
                hint="mend it and `spotmill resume`; what was finished is saved",
            )


def _hold_budget(sessions: Mapping[str, Session], budget: Decimal | None) -> None:
    if budget is None:
        return
    spent = sum_of(session.bill.usd for session in sessions.values())
    if spent is None:
        raise WorkersFailed(
            "the budget cannot be held: a worker's price is unknown",
            where="cost.budget_usd",
            why="its machine's type or lifecycle is not in the price book, or nobody named them",
            hint="complete cost.prices, and set SPOTMILL_INSTANCE_TYPE and _LIFECYCLE on workers",
        )
    if spent >= budget:
        raise BudgetReached(
            f"the budget of {budget} USD is reached: {spent:.6f} spent",
            where="cost.budget_usd",
            hint="raise the budget and `spotmill resume`; what was finished is saved",
        )


def finish(
    ledger: Ledger, provenance: Provenance, shards: Sequence[Shard], started_at: str, clock: Clock
) -> Json:
    """Close the books: the run's manifest, made now or earlier. Raises `BooksUnbalanced`."""
    if (known := ledger.run_manifest()) is not None:
        return known
    manifests = ledger.shard_manifests([shard.id for shard in shards])
    if manifests:
        provenance = replace(provenance, model=manifests[0]["model"])
    bills = [session.bill for _, session in sorted(ledger.sessions().items())]
    manifest = run_manifest(provenance, shards, manifests, bills, started_at, clock.timestamp())
    ledger.finish(manifest)
    finished = ledger.run_manifest()
    assert finished is not None  # noqa: S101 - created above, by this caller or another
    return finished


def progress_of(ledger: Ledger, shards: Sequence[Shard]) -> Json:
    """What there is to see of a run from outside, for people."""
    published = ledger.published()
    saved = ledger.checkpointed_rows()
    return {
        "run_id": ledger.run_id,
        "complete": ledger.run_manifest() is not None,
        "shards": {"planned": len(shards), "published": len(published)},
        "rows": {
            "planned": sum(shard.rows for shard in shards),
            "published": sum(shard.rows for shard in shards if shard.id in published),
            "checkpointed": sum(n for shard, n in saved.items() if shard not in published),
        },
        "workers": [
            {
                "worker_id": session.worker_id,
                "state": session.state,
                "beat_at": session.beat_at,
                "shards": sorted(session.shards),
                "rows": session.rows,
                "error": session.error,
            }
            for session in ledger.sessions().values()
        ],
    }


def cost_so_far(ledger: Ledger) -> Json:
    """What published shards are charged with and what workers have cost until their last beats."""
    manifests = ledger.shard_manifests(ledger.published())
    return {
        "run_id": ledger.run_id,
        "complete": ledger.run_manifest() is not None,
        "currency": CURRENCY,
        "total": decimal_text(sum_of(s.bill.usd for s in ledger.sessions().values())),
        "allocated": decimal_text(sum_of(decimal_of(m["cost"]["total"]) for m in manifests)),
        "shards": [
            {"shard_id": m["shard_id"], "output_tokens": m["tokens"]["output"], **m["cost"]}
            for m in manifests
        ],
        "workers": [
            {
                "worker_id": session.worker_id,
                "state": session.state,
                "cost": decimal_text(session.bill.usd),
                "price_source": session.price.source,
                "seconds": session.buckets.seconds(),
            }
            for session in ledger.sessions().values()
        ],
    }
