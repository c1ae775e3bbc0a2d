"""A supervisor for a job at hand: its fleet, its budget, and an eye on what tokens cost."""

from __future__ import annotations

import logging

from pipeline.at_hand import JobAtHand
from pipeline.budget import Tell, tell_nobody
from pipeline.clock import SystemClock
from pipeline.core.ports import InterruptionNotice, WorkerPool
from pipeline.cost_watching import CostWatch, earlier_runs
from pipeline.dataset.plan_file import Plan
from pipeline.supervisor import FleetSettings, Supervisor

log = logging.getLogger("spotmill")


def supervise(
    here: JobAtHand,
    plan: Plan,
    pool: WorkerPool,
    notice: InterruptionNotice,
    workers: int,
    tell: Tell = tell_nobody,
) -> None:
    """Keep workers going until every shard is published. Raises as `Supervisor.run` does.

    `tell` is told when the budget is nearly spent, and when tokens cost more than they did.
    """
    fleet, cost = here.job.fleet, here.job.cost
    for name in ("deadline", "pool", "on_demand_pool"):
        if getattr(fleet, name) is not None:
            log.warning("fleet.%s is read, but nothing acts on it yet", name)
    settings = FleetSettings(
        workers=workers,
        lease_seconds=fleet.lease_seconds,
        budget_usd=cost.budget_usd,
        warn_usd=cost.warn_usd,
    )
    watch = CostWatch(lambda: earlier_runs(here.store, here.job.name, here.run_id), tell)
    # Before workers are started: a store with a long past takes a while to list it.
    watch.remember()
    Supervisor(
        here.ledger,
        [shard.id for shard in plan.shards],
        pool,
        SystemClock(),
        notice,
        settings,
        tell=tell,
        cost_watch=watch,
    ).run()
