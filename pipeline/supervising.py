"""A supervisor for a job at hand: its fleet, its budget, and an eye on what tokens cost."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from pipeline.at_hand import JobAtHand
from pipeline.budget import Announce, announce_nothing
from pipeline.clock import SystemClock
from pipeline.core.ports import InterruptionNotice, WorkerPool
from pipeline.core.session import Session
from pipeline.cost_past import cost_past
from pipeline.cost_watching import CostWatch, window_after
from pipeline.dataset.plan_file import Plan
from pipeline.supervisor import FleetSettings, Supervisor
from pipeline.telling import telling_run

log = logging.getLogger("spotmill")


def supervise(
    here: JobAtHand,
    plan: Plan,
    pool: WorkerPool,
    notice: InterruptionNotice,
    workers: int,
    announce: Announce = announce_nothing,
) -> None:
    """Keep workers going until every shard is published. Raises as `Supervisor.run` does.

    `announce` is told when the budget is nearly spent, and when tokens cost more than they did.
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
    clock = SystemClock()
    # Before workers are started: a store with a long past takes a while to list it.
    past = cost_past(here.runs.complete(but=here.run_id), here.job)
    watch = CostWatch(past, announce, window_after(past, fleet.lease_seconds), workers)
    with telling_run(here, plan.shards) as tell:

        def told(sessions: Mapping[str, Session], published: Collection[int]) -> None:
            tell(sessions, published)
            watch.look(sessions.values(), clock.now())

        Supervisor(
            here.ledger,
            [shard.id for shard in plan.shards],
            pool,
            clock,
            notice,
            settings,
            told=told,
            announce=announce,
        ).run()
