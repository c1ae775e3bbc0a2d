"""The supervising flow: plan, keep workers going, finish. No decision is made here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed

from pipeline import wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.budget import Announce
from pipeline.core.errors import BudgetReached, SpotmillError
from pipeline.core.ports import InterruptionNotice, WorkerPool
from pipeline.dataset.plan_file import Plan
from pipeline.pools.prefect import DeploymentPool
from pipeline.predicting.keeping import keep_prediction
from pipeline.spot.signals import NoNotice
from pipeline.supervisor import FATAL_ERRORS

log = logging.getLogger("spotmill.run")


@flow(name="generate", persist_result=False, retries=0)
def generate(
    job: str,
    run_id: str | None = None,
    date: str | None = None,
    workers: int | None = None,
    worker_deployment: str | None = "worker/spot",
) -> State[dict[str, Any]]:
    """Run a job, or go on with it. `job` is a path or URI that workers can read too.

    With `worker_deployment` None, workers are processes of this machine.
    """
    logger = get_run_logger()
    try:
        here = open_job(job, run_id, date)
        plan = wiring.plan(here)
        wiring.check_inputs(here, plan)
        logger.info("run %s: %d shards, %d rows", here.run_id, len(plan.shards), plan.rows)
        wanted = workers or here.job.fleet.workers
        keep_prediction(here, plan, wanted, local=worker_deployment is None)
        pool = _pool(here, plan, worker_deployment, wanted)
        with _notice(worker_deployment) as notice:
            wiring.supervise(here, plan, pool, notice, wanted, _emitter(here))
        manifest = wiring.close_books(here, plan)
    except SpotmillError as problem:
        # Said once and in its own words; a traceback would bury it.
        kind = type(problem).__name__
        # By its name an automation tells a budget that was reached from a run that failed.
        name = kind if isinstance(problem, BudgetReached) else "Failed"
        return Failed(name=name, message=f"{kind}: {problem}", data=problem)
    return Completed(message=f"run {here.run_id} is complete", data=manifest)


def _emitter(here: JobAtHand) -> Announce:
    """What happens to a run's money, as Prefect events that automations can act on."""
    run = {
        "prefect.resource.id": f"spotmill.run.{here.run_id}",
        "prefect.resource.name": here.run_id,
        "spotmill.job": here.job.name,
    }

    def emit(name: str, sentence: str, figures: Mapping[str, Any]) -> None:
        payload = {"message": sentence, "run_id": here.run_id, **figures}
        try:
            emit_event(f"spotmill.{name}", resource=run, payload=payload)
        except Exception as problem:
            log.warning("no event spotmill.%s: %s", name, problem)

    return emit


def _notice(deployment: str | None) -> AbstractContextManager[InterruptionNotice]:
    """This machine's end is the workers' end where they live on it, and only there."""
    if deployment is None:
        return wiring.worker_notice(signals=False)
    return nullcontext(NoNotice())


def _pool(here: JobAtHand, plan: Plan, deployment: str | None, wanted: int) -> WorkerPool:
    if deployment is None:
        return wiring.local_pool(here, plan, wanted)
    arguments = {"job": here.uri, "run_id": here.run_id, "date": here.date}
    return DeploymentPool(deployment, arguments, FATAL_ERRORS)
