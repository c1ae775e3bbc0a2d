"""`costs.parquet`: a flat table of a run's charges, exact to the last digit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipeline.core.manifest import CURRENCY, SCHEMA_VERSION
from pipeline.exports.cost_rows import CostRow
from pipeline.exports.parquet import MOMENT, MONEY, SECONDS, encode, seconds, tags_text, to_grain

_TAG_COLUMNS = {
    "project": "Project",
    "team": "Team",
    "environment": "Environment",
    "model_id": "ModelID",
}
_BUCKETS = ("boot", "load", "useful", "wasted", "idle", "drain")
_TOKENS = (
    "input",
    "cached_input",
    "output",
    "wasted",
    "copied",
    "draft_proposed",
    "draft_accepted",
)

COSTS_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("job", pa.string(), nullable=False),
        ("shard_id", pa.int32()),
        ("epoch", pa.int64()),
        ("portion", pa.int64()),
        ("take", pa.int64()),
        pa.field("worker_id", pa.string(), nullable=False),
        ("instance_id", pa.string()),
        ("instance_type", pa.string()),
        ("zone", pa.string()),
        ("lifecycle", pa.string()),
        pa.field("started_at", MOMENT, nullable=False),
        pa.field("ended_at", MOMENT, nullable=False),
        *(pa.field(f"{name}_seconds", SECONDS, nullable=False) for name in _BUCKETS),
        pa.field("seconds", SECONDS, nullable=False),
        ("price_per_hour", MONEY),
        ("on_demand_price_per_hour", MONEY),
        pa.field("price_source", pa.string(), nullable=False),
        pa.field("on_demand_price_source", pa.string(), nullable=False),
        pa.field("currency", pa.string(), nullable=False),
        ("cost_useful", MONEY),
        ("cost_wasted", MONEY),
        ("cost_overhead", MONEY),
        ("cost", MONEY),
        ("on_demand_equivalent", MONEY),
        *(pa.field(f"{name}_tokens", pa.int64(), nullable=False) for name in _TOKENS),
        pa.field("rows", pa.int64(), nullable=False),
        ("end", pa.string()),
        *((name, pa.string()) for name in _TAG_COLUMNS),
        pa.field("tags", pa.string(), nullable=False),
    ]
)
"""`shard_id`, `epoch` and `end` are null in the rest of a session, which no shard is charged for;
`portion` and `take` where a shard's owner worked. An unknown price, and whatever it enters, is
null: sum `cost` only where none is. Node columns hold `unknown` where nobody knew better."""


def encode_costs(rows: Iterable[CostRow]) -> bytes:
    """The same rows give the same bytes."""
    metadata = {"spotmill.schema_version": str(SCHEMA_VERSION)}
    return encode(map(_record, rows), COSTS_SCHEMA, metadata)


def _record(row: CostRow) -> dict[str, Any]:
    buckets, tokens = row.buckets.items(), asdict(row.tokens)
    return {
        "run_id": row.run_id,
        "job": row.job,
        "shard_id": row.shard_id,
        "epoch": row.epoch,
        "portion": row.portion,
        "take": row.take,
        "worker_id": row.worker_id,
        **asdict(row.node),
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        **{f"{name}_seconds": seconds(buckets[name]) for name in _BUCKETS},
        "seconds": seconds(row.buckets.total),
        "price_per_hour": to_grain(row.price.usd_per_hour),
        "on_demand_price_per_hour": to_grain(row.price.on_demand_usd_per_hour),
        "price_source": row.price.source,
        "on_demand_price_source": row.price.on_demand_source,
        "currency": CURRENCY,
        "cost_useful": row.useful,
        "cost_wasted": row.wasted,
        "cost_overhead": row.overhead,
        "cost": row.total,
        "on_demand_equivalent": row.on_demand_equivalent,
        **{f"{name}_tokens": tokens[name] for name in _TOKENS},
        "rows": row.rows,
        "end": row.end,
        **{name: row.tags.get(tag) for name, tag in _TAG_COLUMNS.items()},
        "tags": tags_text(row.tags),
    }
