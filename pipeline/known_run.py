"""A run that was made before: its document, its plan, and the job as it is worked on today."""

from __future__ import annotations

from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import RunMissing
from pipeline.dataset.plan_file import Plan, decode_plan
from pipeline.job import JobSpec


def planned(here: JobAtHand) -> Plan:
    """The plan of a run that was made before. Raises `RunMissing`."""
    body = here.ledger.plan()
    if body is None:
        raise RunMissing(f"run {here.run_id!r} has no plan", where=here.job.output.uri)
    return decode_plan(body)


def job_of_run(here: JobAtHand, document: dict[str, Any]) -> JobSpec:
    """The run's own copy of the job, but for what may change while it runs and changes no row."""
    stored = JobSpec.model_validate(document["job"])
    today = here.job
    return stored.model_copy(
        update={
            "model": today.model,
            "chunks": today.chunks,
            "fleet": today.fleet,
            "cost": today.cost,
            "tags": today.tags,
        }
    )


def require_job(here: JobAtHand) -> dict[str, Any]:
    """The run's `job.json`. Raises `RunMissing`."""
    document = here.ledger.job()
    if document is None:
        raise RunMissing(f"there is no run {here.run_id!r}", where=here.job.output.uri)
    return document
