"""A run's own prediction, made when it begins, and how far off it was when it is done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged, SpotmillError, in_a_line
from pipeline.core.money import decimal_of
from pipeline.dataset.plan_file import Plan
from pipeline.documents import MISSHAPEN, as_object, dump_for_people, in_words, parse
from pipeline.predicting.history import earlier_runs
from pipeline.predicting.outlook import outlook
from pipeline.predicting.view import Evidence

log = logging.getLogger("spotmill")

SCHEMA_VERSION = 1
_NOT_READ = "prompts are not read when a run begins"
Json = dict[str, Any]


def keep_prediction(here: JobAtHand, plan: Plan, workers: int, local: bool = True) -> None:
    """Store what earlier runs let one expect of this one, before any worker began; once, and only
    if there are such runs. `local` workers share this machine. No row is read and no engine
    loaded. Raises nothing that explains itself: a run that cannot be predicted can be run."""
    try:
        key = layout.prediction_key(here.run_id)
        if here.store.get(key) is not None or here.ledger.worker_ids():
            return
        runs = earlier_runs(here, but=here.run_id)
        evidence = Evidence(plan.rows, len(plan.shards), workers, runs, _NOT_READ, local=local)
        found = outlook(here, evidence)
        if not found["rests_on"]["runs"]:
            return
        made = {
            "schema_version": SCHEMA_VERSION,
            "run_id": here.run_id,
            "made_at": SystemClock().timestamp(),
            **found,
        }
        here.store.create(key, dump_for_people(made))
    except (SpotmillError, *MISSHAPEN) as problem:
        log.warning("the run is begun without a prediction: %s", in_a_line(problem))
        return
    log.info(
        "expected of this run: %s output tokens, %s worker hours, %s USD (p90 %s)",
        found["output_tokens"]["p50"],
        found["worker_hours"]["p50"],
        found["usd"]["p50"] or "unknown",
        found["usd"]["p90"] or "unknown",
    )


def prediction_error(here: JobAtHand, manifest: Mapping[str, Any]) -> Json | None:
    """What was expected of a complete run and what it took; None where nothing was expected."""
    key = layout.prediction_key(here.run_id)
    try:
        body = here.store.get(key)
        return None if body is None else _compared(parse(body, as_object, key), manifest, key)
    except SpotmillError as problem:
        log.warning("how well the run was predicted is not told: %s", in_a_line(problem))
        return None


def _compared(expected: Json, manifest: Mapping[str, Any], where: str) -> Json:
    seconds = sum(sum(worker["seconds"].values()) for worker in manifest["workers"])
    paid = decimal_of(manifest["cost"]["total"])
    try:
        return {
            "output_tokens": _beside(expected["output_tokens"], manifest["tokens"]["output"]),
            "worker_hours": _beside(expected["worker_hours"], seconds / 3_600),
            "usd": _beside(
                {name: _number(expected["usd"][name]) for name in ("p50", "p90")},
                None if paid is None else float(paid),
            ),
            "runs": len(expected["rests_on"]["runs"]),
        }
    except MISSHAPEN as problem:
        raise ObjectDamaged("not a prediction", where=where, why=in_words(problem)) from problem


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _beside(expected: Mapping[str, Any], actual: float | None) -> Json:
    """`error` is by how much the p50 was too high, as a share of what it came to."""
    middle, high = expected["p50"], expected["p90"]
    known = middle is not None and actual
    return {
        "p50": middle,
        "p90": high,
        "actual": None if actual is None else round(actual, 6),
        "error": round((middle - actual) / actual, 4) if known and actual else None,
        "within_p90": actual <= high if high is not None and actual is not None else None,
    }
