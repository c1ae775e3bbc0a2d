"""A run's cost beside that of the runs before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from statistics import median
from typing import Any

from pipeline.core.cost_lines import priced
from pipeline.core.money import decimal_of, decimal_text, dollars, sum_of
from pipeline.core.percent import change, percent
from pipeline.core.spans import charges

Json = dict[str, Any]


def in_brief(report: Mapping[str, Any], started_at: str) -> Json:
    """What is compared of a run, from its `cost_report`."""
    return {
        "run_id": report["run_id"],
        "started_at": started_at,
        "output_tokens": report["tokens"]["output"],
        "total": report["total"],
        "per_1k_output_tokens": report["per_1k_output_tokens"],
        "preemption_percent": report["preemption"]["percent"],
        "savings_percent": report["on_demand"]["percent"],
    }


def closed_in_brief(
    run: Mapping[str, Any], started_at: str, preemption_percent: str | None
) -> Json:
    """The same of a run whose books are closed, from its own manifest: not one of its shards', of
    which there may be thousands, has to be read. What preemption cost is no part of it."""
    total = decimal_of(run["cost"]["total"])
    on_demand = sum_of(
        dollars(buckets.total, price.on_demand_usd_per_hour)
        for worker in run["workers"]
        for price, buckets in charges(priced(worker, worker))
    )
    savings = None if total is None or on_demand is None else on_demand - total
    return {
        "run_id": run["run_id"],
        "started_at": started_at,
        "output_tokens": run["tokens"].get("output", 0),
        "total": run["cost"]["total"],
        "per_1k_output_tokens": run["cost"]["per_1k_output_tokens"],
        "preemption_percent": preemption_percent,
        "savings_percent": decimal_text(percent(savings, on_demand)),
    }


def compared(now: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> Json:
    """A run against earlier ones, `earlier` first to last as given, all `in_brief`.

    `change_percent` is how much more now than then, of each run and of what a thousand output
    tokens usually cost (the median of those whose cost is known); `preemption_points` is the
    difference of the two percentages. Null where either is unknown.
    """
    known = [
        cost for run in earlier if (cost := decimal_of(run["per_1k_output_tokens"])) is not None
    ]
    usual = median(known) if known else None
    return {
        "runs": [{**run, **_changes(now, run)} for run in earlier],
        "usual_per_1k_output_tokens": decimal_text(usual),
        "change_percent": decimal_text(change(decimal_of(now["per_1k_output_tokens"]), usual)),
    }


def _changes(now: Mapping[str, Any], then: Mapping[str, Any]) -> Json:
    def of(key: str) -> str | None:
        return decimal_text(change(_number(now[key]), _number(then[key])))

    here, there = (_number(run["preemption_percent"]) for run in (now, then))
    return {
        "change_percent": {
            key: of(key) for key in ("per_1k_output_tokens", "output_tokens", "total")
        },
        "preemption_points": decimal_text(None if here is None or there is None else here - there),
    }


def _number(value: str | int | None) -> Decimal | None:
    return None if value is None else Decimal(value)
