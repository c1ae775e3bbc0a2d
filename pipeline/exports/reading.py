"""A finished run's charges, read back from its `costs.parquet`: one object for all its shards."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.cost_kinds import Kinds, by_bucket
from pipeline.core.cost_lines import Life, Line
from pipeline.core.manifest import Parting, partings
from pipeline.core.money import Buckets, NodePrice
from pipeline.core.spans import Span

_BUCKETS = tuple(Buckets().items())
_OF_A_LINE = (
    "worker_id", "zone", "of_shard", "price_per_hour", "on_demand_price_per_hour", "price_source",
)  # fmt: skip
_ALL_KNOWN = pc.ScalarAggregateOptions(skip_nulls=False)
_KINDS = tuple(f"cost_{kind}" for kind in Kinds._fields)
_SUMS = (*_KINDS, "on_demand_equivalent", *(f"{name}_seconds" for name in _BUCKETS))


@dataclass(frozen=True, slots=True)
class Charged:
    """A run's charges: a line for all that a worker did for shards at a price, and for its rest at
    one, without tokens and tags; the workers that `left` a shard early; when each session lived."""

    lines: tuple[Line, ...]
    left: frozenset[Parting]
    lives: Mapping[str, Life]


def read_costs(body: bytes) -> Charged:
    """Raises `ValueError` and `LookupError` for what is no such table."""
    table = pq.read_table(io.BytesIO(body))
    table = table.append_column("of_shard", pc.is_valid(table["shard_id"]))
    # Summed up by Arrow: as Python's objects, a large run's rows would take seconds.
    sums = [*((name, "sum", _ALL_KNOWN) for name in _SUMS), ("shard_id", "min")]
    times = [("started_at", "min"), ("ended_at", "max")]
    summed = table.group_by(_OF_A_LINE).aggregate([*sums, *times]).to_pylist()
    attempts = table.filter(table["of_shard"]).group_by(["worker_id", "end", "portion"])
    return Charged(
        tuple(_line(row) for row in summed),
        # As manifests have them, in which a shard's owner has no portion.
        partings(
            {key: value for key, value in attempt.items() if value is not None}
            for attempt in attempts.aggregate([]).to_pylist()
        ),
        {
            row["worker_id"]: (row["started_at_min"].isoformat(), row["ended_at_max"].isoformat())
            for row in summed
            if not row["of_shard"]
        },
    )


def _micros(row: Mapping[str, Any], bucket: str) -> int:
    return int(row[f"{bucket}_seconds_sum"].scaleb(6))


def _line(row: Mapping[str, Any]) -> Line:
    buckets = Buckets(**{name: _micros(row, name) for name in _BUCKETS})
    price = NodePrice(row["price_per_hour"], row["price_source"], row["on_demand_price_per_hour"])
    kinds = Kinds(*(row[f"{name}_sum"] for name in _KINDS))
    return Line(
        worker_id=row["worker_id"],
        shard_id=row["shard_id_min"],
        zone=row["zone"],
        tags={},
        started_at=row["started_at_min"].isoformat(),
        ended_at=row["ended_at_max"].isoformat(),
        buckets=buckets,
        usd=by_bucket([Span(price, buckets)], [kinds]),
        on_demand_usd=row["on_demand_equivalent_sum"],
    )
