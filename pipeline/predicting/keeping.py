"""A run's own prediction: kept when it was planned, or made when it begins."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core import layout
from pipeline.core.errors import RunConflict, SpotmillError, in_a_line
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.planning import input_fingerprint
from pipeline.documents import MISSHAPEN, as_object, dump_for_people, parse
from pipeline.predicting.history import earlier_runs
from pipeline.predicting.outlook import outlook
from pipeline.predicting.view import Evidence

log = logging.getLogger("spotmill")

SCHEMA_VERSION = 1
_NOT_READ = "prompts are not read when a run begins"
Json = dict[str, Any]


def keep(here: JobAtHand, plan: Plan, found: Json) -> None:
    """Store what a plan's outlook says as what is expected of the run of this name, in place of
    what was. Raises `RunConflict` once the run has begun."""
    if here.ledger.sessions.worker_ids():
        raise RunConflict(
            f"run {here.run_id!r} has begun: nothing is expected of it any more",
            where="--keep",
            hint="name another run with --run-id",
        )
    here.store.put(layout.prediction_key(here.run_id), dump_for_people(_made(here, plan, found)))


def keep_prediction(here: JobAtHand, plan: Plan, workers: int, local: bool = True) -> None:
    """Store what earlier runs let one expect of this one, before any worker began; once, and only
    if there are such runs. What was kept when the same input and settings were planned stands.
    `local` workers share this machine. No row is read and no engine loaded. Raises nothing that
    explains itself: a run that cannot be predicted can be run."""
    try:
        found = _kept(here, plan)
        if found is None:
            if here.ledger.sessions.worker_ids():
                return
            runs = earlier_runs(here, but=here.run_id)
            evidence = Evidence(plan.rows, len(plan.shards), workers, runs, _NOT_READ, local=local)
            found = outlook(here, evidence)
            if not found["rests_on"]["runs"]:
                return
            keep(here, plan, found)
        log.info(
            "expected of this run: %s output tokens, %s worker hours, %s USD (p90 %s)",
            found["output_tokens"]["p50"],
            found["worker_hours"]["p50"],
            found["usd"]["p50"] or "unknown",
            found["usd"]["p90"] or "unknown",
        )
    except (SpotmillError, *MISSHAPEN) as problem:
        log.warning("the run is begun without a prediction: %s", in_a_line(problem))


def _made(here: JobAtHand, plan: Plan, found: Json) -> Json:
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": here.run_id,
        "made_at": SystemClock().timestamp(),
        "fingerprints": _fingerprints(here, plan),
        **found,
    }


def _kept(here: JobAtHand, plan: Plan) -> Json | None:
    """What is there, if it was made of this run's input and settings."""
    key = layout.prediction_key(here.run_id)
    body = here.store.get(key)
    if body is None:
        return None
    found = parse(body, as_object, key)
    if found.get("fingerprints") == _fingerprints(here, plan):
        return found
    log.warning("what was expected of run %s is of another input or job", here.run_id)
    here.store.delete(key)
    return None


def _fingerprints(here: JobAtHand, plan: Plan) -> Json:
    return {"settings": here.job.settings_fingerprint(), "input": input_fingerprint(plan)}
