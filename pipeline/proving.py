"""What `spotmill verify` does: from a job at hand to a verdict on its run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pipeline.at_hand import JobAtHand
from pipeline.core.errors import ObjectDamaged, RunConflict, RunMissing, in_a_line
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.planning import plan_problems
from pipeline.dataset.source import ParquetSource
from pipeline.deep import DeepVerdict, draw_sample, regenerate
from pipeline.engine_loading import SCRIPTED, check_engine, engine_loader
from pipeline.engines.preload import cpu_environment
from pipeline.engines.vllm import device_at_hand
from pipeline.job import JobSpec, fingerprint
from pipeline.job_speculative import SpeculativeSpec
from pipeline.verify import problems, remarks
from pipeline.wiring import job_of_run, planned, require_job

SAMPLED_ROWS = 32


def verify(here: JobAtHand, deep_rows: int | None = None, seed: int = 0) -> dict[str, Any]:
    """The verdict as one document; `deep_rows` of the run's rows are generated again.

    Raises what a worker raises when the engine cannot be loaded here, and `RunConflict` when the
    job file names another model by now.
    """
    document = require_job(here)
    found: list[str] = []
    deep: DeepVerdict | None = None
    try:
        job, plan = _job_and_plan(here, document)
    except (ObjectDamaged, RunMissing) as problem:
        found.append(in_a_line(problem))
    else:
        source = ParquetSource(job, plan.schema, here.options)
        found += _job_problems(here, document, job, plan)
        found += problems(here.ledger, plan.shards, source)
        if deep_rows is not None:
            deep = _deep(here, document, plan, source, deep_rows, seed)
            found += deep.problems
    return {
        "run_id": here.run_id,
        "verified": not found,
        "problems": found,
        "remarks": remarks(here.ledger),
        "deep": None if deep is None else deep.to_json(),
    }


def missing_environment(here: JobAtHand) -> dict[str, str]:
    """What this process should have been started with, as workers are, to generate rows in it."""
    if here.job.model.id.startswith(SCRIPTED) or device_at_hand() != "cpu":
        return {}
    wanted = cpu_environment(1)
    return {name: value for name, value in wanted.items() if os.environ.get(name) != value}


def _job_and_plan(here: JobAtHand, document: dict[str, Any]) -> tuple[JobSpec, Plan]:
    try:
        job = JobSpec.model_validate(document["job"])
    except ValidationError as problem:
        raise ObjectDamaged("its job is none", where="job.json", why=str(problem)) from problem
    return job, planned(here)


def _job_problems(
    here: JobAtHand, document: dict[str, Any], job: JobSpec, plan: Plan
) -> Iterator[str]:
    """The run's fingerprint, with which every manifest is signed, is of this job and this plan."""
    parts = document["fingerprints"] if isinstance(document["fingerprints"], dict) else {}
    if fingerprint(parts) != document["fingerprint"]:
        yield "job.json: its fingerprint is not made of its fingerprints"
    if parts.get("settings") != job.settings_fingerprint():
        yield "job.json: its job is not the one that the run's fingerprint was made of"
    if document["run_id"] != here.run_id:
        yield f"job.json: it is of another run, {document['run_id']!r}"
    yield from plan_problems(job, plan, str(parts.get("input")), here.options)


def _deep(
    here: JobAtHand,
    document: dict[str, Any],
    plan: Plan,
    source: ParquetSource,
    rows: int,
    seed: int,
) -> DeepVerdict:
    sample = draw_sample(here.ledger, plan.shards, source, rows, seed)
    if not sample:
        return DeepVerdict(seed)
    job = job_of_run(here, document)
    theirs = JobSpec.model_validate(document["job"])
    if job.settings_fingerprint() != theirs.settings_fingerprint():
        raise RunConflict(
            "the run was generated with another model than the job file names",
            where="model",
            why="whether it is this model's cannot be asked of another one",
            hint="verify with the job file that the run was started with",
        )
    # A draft model changes no answer, only how fast it comes: answers that hold without one hold.
    # On a CPU, besides, drafts and the temperature that near-ties are told by do not go together.
    plain = job.model.model_copy(update={"speculative": SpeculativeSpec(method="none")})
    job = job.model_copy(update={"model": plain})
    check_engine(job)
    engine = engine_loader(job, here.options)(False)
    try:
        return regenerate(engine, sample, seed)
    finally:
        engine.close()
