"""What was expected of a run before it began, beside what it took."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.at_hand import JobAtHand
from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged, SpotmillError, in_a_line
from pipeline.core.money import decimal_of
from pipeline.documents import MISSHAPEN, as_object, in_words, parse

log = logging.getLogger("spotmill")

Json = dict[str, Any]


def prediction_error(here: JobAtHand, manifest: Mapping[str, Any]) -> Json | None:
    """What was expected of a complete run and what it took; None where nothing was expected."""
    key = layout.prediction_key(here.run_id)
    try:
        body = here.store.get(key)
        return None if body is None else _compared(parse(body, as_object, key), manifest, key)
    except SpotmillError as problem:
        log.warning("how well the run was predicted is not told: %s", in_a_line(problem))
        return None


def tell_prediction_error(here: JobAtHand, manifest: Mapping[str, Any]) -> None:
    """Log it, if there is one."""
    off = prediction_error(here, manifest)
    if off is None:
        return
    units = {"output_tokens": "output tokens", "worker_hours": "worker hours", "usd": "USD"}
    told = (f"{unit}: {_in_words(off[name])}" for name, unit in units.items())
    log.info("what was expected of this run and what it came to: %s", "; ".join(told))


def _in_words(figure: Json) -> str:
    if figure["actual"] is None or figure["p50"] is None:
        return "unknown"
    error = "" if figure["error"] is None else f" ({figure['error']:+.0%})"
    return f"{figure['p50']:g}{error}, p90 {figure['p90']:g}, came to {figure['actual']:g}"


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
