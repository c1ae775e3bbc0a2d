"""What earlier runs of a job used, as far as a run of it can be compared with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from statistics import median

from pipeline.core.usage import Usage, usage_of_run
from pipeline.documents import MISSHAPEN, Json, in_words
from pipeline.job import JobSpec
from pipeline.job_likeness import paced_alike
from pipeline.job_runs import CompleteRun

log = logging.getLogger("spotmill.run")

_MOST_RUNS = 10


@dataclass(frozen=True, slots=True)
class CostPast:
    """What each run used, the oldest first, all of them telling; and how long they took, in the
    median, None without any."""

    usages: Sequence[Usage] = ()
    run_seconds: float | None = None


def cost_past(runs: Iterable[CompleteRun], job: JobSpec) -> CostPast:
    """Of the latest ten that asked the same of the same model and engine; `runs` come newest first.

    Those with an unknown price tell nothing. That earlier runs cannot be read is no reason not to
    run: the log says so.
    """
    try:
        found = list(islice(_told_by(runs, job), _MOST_RUNS))
    except Exception as problem:
        log.warning("earlier runs are not compared with: %s", problem)
        found = []
    if not found:
        return CostPast()
    return CostPast([usage for usage, _ in reversed(found)], median(took for _, took in found))


def _told_by(runs: Iterable[CompleteRun], job: JobSpec) -> Iterable[tuple[Usage, float]]:
    for run in runs:
        try:
            if not paced_alike(JobSpec.model_validate(run.job["job"]), job):
                continue
            usage, took = usage_of_run(run.manifest), _seconds(run.manifest)
        except MISSHAPEN as problem:
            log.warning("run %s is not compared with: %s", run.run_id, in_words(problem))
            continue
        if usage.is_telling:
            yield usage, took


def _seconds(manifest: Json) -> float:
    began, ended = (
        datetime.fromisoformat(manifest[name]) for name in ("started_at", "finished_at")
    )
    return (ended - began).total_seconds()
