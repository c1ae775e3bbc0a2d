"""The ordered copy of a dataset that shards are cut from, where the job asks for such an order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import InputInvalid
from pipeline.core.shard_list import ShardList
from pipeline.core.shards import FileVersion, InputFile, RowGroup, plan_shards
from pipeline.dataset.carriers import carrier_schema, packed, unpacked
from pipeline.dataset.columns import Columns, copied_columns
from pipeline.dataset.external_sort import sorting_database
from pipeline.dataset.files import check_versions
from pipeline.dataset.footers import SharedFilesystem
from pipeline.dataset.outputs import ROW_KEY
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.prefix_order import selected_rows, sorted_by_prompt
from pipeline.dataset.row_stream import stream_rows
from pipeline.job import JobSpec
from pipeline.stores.options import StoreOptions

Keep = Callable[[int, str, bytes], FileVersion]
"""Keeps a file of the copy under its number and the hash of its bytes."""

_ZSTD_LEVEL = 3
_GROUP_ROWS = 16_384
_GROUP_BYTES = 32 * 2**20
_FILE_BYTES = 32 * 2**20
_LARGEST_FILE_BYTES = 256 * 2**20


def plan_in_order(job: JobSpec, dataset: Plan, options: StoreOptions, keep: Keep) -> Plan:
    """Copy the rows of `dataset` in the order of their prompts, and plan the copy.

    The same dataset gives the same bytes to `keep`. Raises `InputChanged` when a file is not, or is
    no longer, the planned one.
    """
    files = dataset.origin.files
    columns = copied_columns(job, dataset.schema, job.input.uri)
    schema = copy_schema(columns, dataset.schema)

    def rows() -> Iterator[pa.RecordBatch]:
        check_versions(files, options)
        yield from selected_rows(job, columns, files, options)
        # Checked again, for a file rewritten while it was read gives rows of both.
        check_versions(files, options)

    in_order = sorted_by_prompt(job, rows(), schema)
    row_bytes = ShardList.of(dataset.shards).bytes // max(1, dataset.rows)
    copied = _files(in_order, schema, job.shards.rows, row_bytes)
    kept = (_kept(number, body, keep) for number, body in enumerate(copied))
    shards = ShardList(plan_shards(kept, job.shards.rows))
    if not shards:
        raise InputInvalid(
            "no row of the dataset fulfils the condition",
            where="input.where",
            hint="mend input.where, or plan with order: input",
        )
    return Plan(shards, schema, dataset.origin)


def copy_schema(columns: Columns, schema: pa.Schema) -> pa.Schema:
    """The columns that the job reads, and each row's number in the input."""
    fields = [schema.field(name) for name in columns.read]
    return pa.schema([*fields, pa.field(ROW_KEY, pa.int64(), nullable=False)])


def copy_difference(job: JobSpec, plan: Plan, options: StoreOptions) -> str | None:
    """How the copy's rows differ from those the job selects of its dataset, in words, wherever they
    stand; None when they are the same. Raises `InputChanged` when the dataset is another by now."""
    assert plan.copied_from is not None  # noqa: S101 - asked of copies alone
    schema = plan.schema
    files = plan.copied_from.files
    columns = copied_columns(job, schema.remove(schema.get_field_index(ROW_KEY)), job.input.uri)
    check_versions(files, options)
    there = _digest(selected_rows(job, columns, files, options), schema)
    check_versions(files, options)
    filesystem = SharedFilesystem()
    versions = dict.fromkeys(version.uri for version in ShardList.of(plan.shards).versions)
    batches = (b for uri in versions for b in stream_rows(uri, schema.names, options, filesystem))
    here = _digest(batches, schema)
    if here == there:
        return None
    return f"its copy's {here[0]} rows are not the {there[0]} that the job selects of its input"


def _digest(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> tuple[int, ...]:
    """Rows, and the sums of their hashes: equal for the same rows in any order."""
    carried = carrier_schema(schema)
    schema = pa.schema([pa.field(f"c{i}", field.type) for i, field in enumerate(carried)])
    packs = (
        pa.record_batch([packed(batch.column(name)) for name in carried.names], schema=schema)
        for batch in batches
    )
    names = ", ".join(schema.names)
    with sorting_database() as database:
        database.register("rows", pa.RecordBatchReader.from_batches(schema, packs))
        [found] = database.sql(
            f"SELECT count(*), coalesce(sum(hash({names})::HUGEINT), 0), "  # noqa: S608
            f"coalesce(bit_xor(hash({names})), 0) FROM rows"
        ).fetchall()
    return tuple(int(number) for number in found)


def _files(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, shard_rows: int, row_bytes: int
) -> Iterator[bytes]:
    """Parquet files of whole shards, or of parts of one that is too large for a file."""
    file = _File(schema)
    for group in _groups(batches, schema, shard_rows, row_bytes):
        file.add(group)
        at_shards_end = file.rows % shard_rows == 0
        if file.size >= (_FILE_BYTES if at_shards_end else _LARGEST_FILE_BYTES):
            yield file.closed()
            file = _File(schema)
    if file.rows:
        yield file.closed()


def _groups(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, shard_rows: int, row_bytes: int
) -> Iterator[pa.Table]:
    """Row groups that never reach over a shard's end."""
    fitting = max(64, min(_GROUP_ROWS, _GROUP_BYTES // max(1, row_bytes)))
    waiting: list[pa.RecordBatch] = []
    count = in_shard = 0
    for batch in batches:
        while batch.num_rows:
            wanted = min(fitting, shard_rows - in_shard) - count
            waiting.append(batch.slice(0, wanted))
            count += waiting[-1].num_rows
            batch = batch.slice(wanted)
            if count == min(fitting, shard_rows - in_shard):
                yield _restored(waiting, schema)
                in_shard = (in_shard + count) % shard_rows
                waiting, count = [], 0
    if waiting:
        yield _restored(waiting, schema)


def _restored(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Carriers as the columns they stand for."""
    table = pa.Table.from_batches(batches).combine_chunks()
    arrays = [
        unpacked(column.combine_chunks(), field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


class _File:
    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(
            self._sink, schema, compression="zstd", compression_level=_ZSTD_LEVEL
        )

    @property
    def size(self) -> int:
        return self._sink.tell()

    def add(self, group: pa.Table) -> None:
        self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self.rows += group.num_rows

    def closed(self) -> bytes:
        self._writer.close()
        return self._sink.getvalue()


def _kept(number: int, body: bytes, keep: Keep) -> InputFile:
    version = keep(number, hashlib.sha256(body).hexdigest()[:24], body)
    metadata = pq.read_metadata(io.BytesIO(body))
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    row_groups = tuple(RowGroup(group.num_rows, group.total_byte_size) for group in groups)
    return InputFile(version.uri, version.etag, version.size, row_groups)
