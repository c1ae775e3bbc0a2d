"""`plan.parquet`: the shards, and the schema they share, as they were when the run was planned."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import ObjectDamaged
from pipeline.core.shards import Shard

_SCHEMA_KEY = b"spotmill.input_schema"
_PLAN_SCHEMA = pa.schema(
    [
        ("shard_id", pa.int32()),
        ("file", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
        ("row_groups", pa.list_(pa.int32())),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Plan:
    shards: tuple[Shard, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


def encode_plan(plan: Plan) -> bytes:
    """The same plan gives the same bytes."""
    table = _table(plan.shards)
    schema = base64.b64encode(plan.schema.serialize().to_pybytes())
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_SCHEMA_KEY: schema}), sink, compression="zstd")
    return sink.getvalue()


def decode_plan(body: bytes) -> Plan:
    """Raises `ObjectDamaged`."""
    try:
        return _decoded(body)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as problem:
        raise ObjectDamaged(
            "not a plan", where="plan.parquet", why=f"{type(problem).__name__}: {problem}"
        ) from problem


def _decoded(body: bytes) -> Plan:
    table = pq.read_table(io.BytesIO(body))
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(table.schema.metadata[_SCHEMA_KEY])))
    shards = tuple(
        Shard(
            id=row["shard_id"],
            uri=row["file"],
            etag=row["etag"],
            size=row["size"],
            row_groups=tuple(row["row_groups"]),
            first_row=row["first_row"],
            rows=row["rows"],
            bytes=row["bytes"],
        )
        for row in table.to_pylist()
    )
    return Plan(shards, schema)


def _table(shards: Sequence[Shard]) -> pa.Table:
    columns = [
        [s.id for s in shards],
        [s.uri for s in shards],
        [s.etag for s in shards],
        [s.size for s in shards],
        [list(s.row_groups) for s in shards],
        [s.first_row for s in shards],
        [s.rows for s in shards],
        [s.bytes for s in shards],
    ]
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, _PLAN_SCHEMA, strict=True)],
        schema=_PLAN_SCHEMA,
    )
