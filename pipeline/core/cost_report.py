"""What a run has cost, shared out in whatever way somebody asks for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from pipeline.core.cost_days import by_day
from pipeline.core.cost_kinds import OVERHEAD
from pipeline.core.cost_lines import Line, RunBooks, lines_of
from pipeline.core.manifest import CURRENCY, per_token
from pipeline.core.money import MICROS_PER_SECOND, Buckets, decimal_text, sum_of
from pipeline.core.percent import percent
from pipeline.core.preemption import preempted, price_of_preemption
from pipeline.core.rows import TokenCounts

By: TypeAlias = Literal["shard", "worker", "zone", "day", "tag"]
Key: TypeAlias = int | str | tuple[tuple[str, str | None], ...] | None
Json = dict[str, Any]

_UNCERTAIN = ("uncertain", "uncertain_until_closed")
"""Beyond the total: see `core.bills`. Earlier versions closed books with one of them, or none."""
_OF_A_RUN = ("useful", "wasted", "overhead", "per_1k_output_tokens", "per_1m_tokens")


def cost_report(books: RunBooks, by: By = "worker", tag: str | None = None) -> Json:
    """All that is known of a run's cost, with `rows` for each shard, worker, zone, day or value of
    tags (of the one `tag`, if given).

    However it is shared out, the rows' seconds, tokens and dollars sum to the run's. What no shard
    is charged with is the row without a shard; elsewhere it is part of its worker's zone, day and
    tags, and `unallocated` says how much it is. What was spent `after_closing` is in no row and no
    sum.
    """
    lines = lines_of(books)
    whole = _sums(lines)
    cost = whole["cost"]
    total = _total(lines)
    gone = preempted(books)
    workers = gone | {row["worker_id"] for row in books.run["workers"]}
    lives = {worker_id: books.life_of(worker_id) for worker_id in workers}
    return {
        "run_id": books.run["run_id"],
        "complete": books.complete,
        "currency": CURRENCY,
        "total": cost["total"],
        "allocated": decimal_text(_total(line for line in lines if line.shard_id is not None)),
        "unallocated": cost["unallocated"],
        **{key: books.run["cost"][key] for key in _UNCERTAIN if key in books.run["cost"]},
        "after_closing": {
            "workers": [worker.worker_id for worker in books.outlived],
            "seconds": sum(worker.micros for worker in books.outlived) / MICROS_PER_SECOND,
            "cost": decimal_text(sum_of(worker.usd for worker in books.outlived)),
        },
        **{key: cost[key] for key in _OF_A_RUN},
        "on_demand": {
            "equivalent": cost["on_demand_equivalent"],
            "savings": cost["savings"],
            "percent": cost["savings_percent"],
        },
        "preemption": price_of_preemption(gone, lives, lines, total),
        "seconds": whole["seconds"],
        "tokens": whole["tokens"],
        "by": by,
        "rows": rows_by(lines, by, tag),
        "shards": [
            {"shard_id": m["shard_id"], "output_tokens": m["tokens"]["output"], **m["cost"]}
            for m in books.manifests
        ],
        "workers": [
            {key: worker[key] for key in ("worker_id", "state", "cost", "price_source", "seconds")}
            for worker in books.run["workers"]
        ],
    }


def rows_by(lines: Sequence[Line], by: By, tag: str | None = None) -> list[Json]:
    """Rows in the order of their keys; what has no shard, or not the tag, comes last."""
    groups: defaultdict[Key, list[Line]] = defaultdict(list)
    for line in lines:
        for key, part in _keyed(line, by, tag):
            groups[key].append(part)
    ordered = sorted(groups, key=lambda key: (key is None, _sortable(key)))
    return [{by: _shown(key), **_sums(groups[key])} for key in ordered]


def _keyed(line: Line, by: By, tag: str | None) -> Iterable[tuple[Key, Line]]:
    if by == "day":
        return by_day(line).items()
    if by == "shard":
        return [(line.shard_id, line)]
    if by == "worker":
        return [(line.worker_id, line)]
    if by == "zone":
        return [(line.zone, line)]
    if tag is not None:
        return [(((tag, line.tags.get(tag)),), line)]
    return [(tuple(sorted(line.tags.items())), line)]


def _sortable(key: Key) -> tuple[Any, ...]:
    if isinstance(key, tuple):
        return tuple((value is None, name, value or "") for name, value in key)
    return () if key is None else (key,)


def _shown(key: Key) -> Any:
    return dict(key) if isinstance(key, tuple) else key


def _sums(lines: Sequence[Line]) -> Json:
    buckets = sum((line.buckets for line in lines), Buckets())
    tokens = sum((line.tokens for line in lines), TokenCounts())
    total = _total(lines)
    on_demand = sum_of(line.on_demand_usd for line in lines)
    savings = None if total is None or on_demand is None else on_demand - total
    return {
        "seconds": buckets.seconds(),
        "tokens": asdict(tokens),
        "cost": {
            "total": decimal_text(total),
            "useful": decimal_text(_in_buckets(lines, ("useful",))),
            "wasted": decimal_text(_in_buckets(lines, ("wasted",))),
            "overhead": decimal_text(_in_buckets(lines, OVERHEAD)),
            "unallocated": decimal_text(_total(line for line in lines if line.shard_id is None)),
            **per_token(total, tokens.input, tokens.output),
            "on_demand_equivalent": decimal_text(on_demand),
            "savings": decimal_text(savings),
            "savings_percent": decimal_text(percent(savings, on_demand)),
        },
    }


def _total(lines: Iterable[Line]) -> Decimal | None:
    return sum_of(line.total for line in lines)


def _in_buckets(lines: Sequence[Line], buckets: Sequence[str]) -> Decimal | None:
    def of(usd: Mapping[str, Decimal] | None) -> Decimal | None:
        return None if usd is None else sum((usd[bucket] for bucket in buckets), Decimal(0))

    return sum_of(of(line.usd) for line in lines)
