"""`plan.parquet`: the shards, and the schema they share, as they were when the run was planned."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import ObjectDamaged
from pipeline.core.shard_list import ShardList
from pipeline.core.shards import FileVersion, Shard

_SCHEMA_KEY = b"spotmill.input_schema"
_ORIGIN_KEY = b"spotmill.copied_from"
_SHARDS_AT_ONCE = 65_536
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
class Origin:
    """The dataset as it was listed: its files that hold rows, and how many shards and rows these
    give by their footers."""

    files: tuple[FileVersion, ...]
    shards: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`copied_from` is the dataset itself where the shards are cut from an ordered copy of it."""

    shards: Sequence[Shard]
    schema: pa.Schema = field(compare=False)
    copied_from: Origin | None = None

    @property
    def rows(self) -> int:
        return ShardList.of(self.shards).rows

    @property
    def origin(self) -> Origin:
        """The dataset that the job names."""
        if self.copied_from is not None:
            return self.copied_from
        shards = ShardList.of(self.shards)
        return Origin(tuple(dict.fromkeys(shards.versions)), len(shards), shards.rows)


def encode_plan(plan: Plan) -> bytes:
    """The same plan gives the same bytes."""
    metadata = {_SCHEMA_KEY: base64.b64encode(plan.schema.serialize().to_pybytes())}
    if plan.copied_from is not None:
        metadata[_ORIGIN_KEY] = json.dumps(asdict(plan.copied_from)).encode()
    sink = io.BytesIO()
    schema = _PLAN_SCHEMA.with_metadata(metadata)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in _batches(ShardList.of(plan.shards), schema):
            writer.write_batch(batch)
    return sink.getvalue()


def decode_plan(body: bytes) -> Plan:
    """Raises `ObjectDamaged`."""
    try:
        with pq.ParquetFile(io.BytesIO(body)) as parquet:
            metadata = parquet.schema_arrow.metadata
            packed = base64.b64decode(metadata[_SCHEMA_KEY])
            schema = pa.ipc.read_schema(pa.py_buffer(packed))
            origin = metadata.get(_ORIGIN_KEY)
            return Plan(
                ShardList(_shards(parquet)), schema, None if origin is None else _origin(origin)
            )
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        OverflowError,
    ) as problem:
        raise ObjectDamaged(
            "not a plan", where="plan.parquet", why=f"{type(problem).__name__}: {problem}"
        ) from problem


def _origin(text: bytes) -> Origin:
    document: dict[str, Any] = json.loads(text)
    files = tuple(FileVersion(**file) for file in document.pop("files"))
    return Origin(files, **document)


def _shards(parquet: pq.ParquetFile) -> Iterator[Shard]:
    names = _PLAN_SCHEMA.names
    for batch in parquet.iter_batches(_SHARDS_AT_ONCE, columns=names):
        columns = [batch.column(name).to_pylist() for name in names]
        for shard_id, uri, etag, size, groups, *numbers in zip(*columns, strict=True):
            yield Shard(shard_id, uri, etag, size, tuple(groups), *numbers)


def _batches(shards: ShardList, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    uris = pa.array([version.uri for version in shards.versions], pa.string())
    etags = pa.array([version.etag for version in shards.versions], pa.string())
    sizes = pa.array([version.size for version in shards.versions], pa.int64())
    numbers = (shards.first_rows, shards.row_counts, shards.byte_counts)
    for first in range(0, len(shards), _SHARDS_AT_ONCE):
        part = slice(first, first + _SHARDS_AT_ONCE)
        files = pa.array(shards.file_of[part], pa.int64())
        columns = [
            pa.array(shards.ids[part], pa.int32()),
            uris.take(files),
            etags.take(files),
            sizes.take(files),
            _lists(shards, part),
            *(pa.array(column[part], pa.int64()) for column in numbers),
        ]
        yield pa.record_batch(columns, schema=schema)


def _lists(shards: ShardList, part: slice) -> pa.Array:
    """The row groups of these shards."""
    before = shards.group_ends[part.start - 1] if part.start else 0
    ends = shards.group_ends[part]
    offsets = pa.array([0, *(end - before for end in ends)], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(shards.groups[before : ends[-1]], pa.int32()))
