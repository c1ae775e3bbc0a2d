"""The rows of a shard, read from Parquet, and the part that answers them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline.core.errors import InputInvalid, RowRejected
from pipeline.core.manifest import FOOTER_KEY
from pipeline.core.rows import FinishedRow, Prompt, Sampling
from pipeline.core.shards import Shard
from pipeline.dataset.columns import Columns, matching_rows, resolve_columns
from pipeline.dataset.files import check_unchanged, first_line, open_parquet, read_error
from pipeline.dataset.outputs import output_schema
from pipeline.dataset.prompts import prompt_columns, prompt_maker
from pipeline.job import JobSpec, SamplingSpec
from pipeline.stores.options import StoreOptions
from pipeline.stores.retry import retrying

_READ_ROWS = 16_384
_ROW_GROUP_ROWS = 65_536
_ZSTD_LEVEL = 3


class ParquetSource:
    """Opens shards of one job's dataset. Safe to call from any thread."""

    def __init__(self, job: JobSpec, schema: pa.Schema, options: StoreOptions) -> None:
        self._job = job
        self._columns = resolve_columns(job, schema, job.input.uri)
        self._options = options

    def open(self, shard: Shard) -> ParquetShard:
        """Raises `InputChanged` when the file is not, or is no longer, the planned one."""
        check_unchanged([shard], self._options)
        table = retrying(f"read {shard.uri}", lambda: _read(shard, self._columns, self._options))
        # Checked again, for a file rewritten while it was read gives rows of both.
        check_unchanged([shard], self._options)
        if self._job.input.where is not None:
            asked = table.select(self._columns.asked)
            table = table.take(matching_rows(asked, self._job.input.where))
        return ParquetShard(self._job, self._columns, table)


class ParquetShard:
    """A shard's rows in memory. Implements `ShardInput`."""

    def __init__(self, job: JobSpec, columns: Columns, table: pa.Table) -> None:
        self._carried = columns.carried
        self._table = table
        self._sampling = job.sampling
        self._base = job.sampling.core()
        self._outputs = output_schema(job.sampling)
        self._prompt_columns = {name: table.column(name) for name in prompt_columns(job.input)}
        self._make_prompt = prompt_maker(job.input)

    @property
    def rows(self) -> int:
        return int(self._table.num_rows)

    def prompt(self, row: int) -> Prompt:
        return self._make_prompt(
            {
                name: _cell(column, row, f"column {name!r}")
                for name, column in self._prompt_columns.items()
            }
        )

    def sampling(self, row: int) -> Sampling:
        if not self._sampling.columns:
            return self._base
        given = {
            parameter: _cell(
                self._table.column(column), row, f"sampling column {column!r} for {parameter}"
            )
            for parameter, column in self._sampling.columns.items()
        }
        return _overridden(
            self._sampling, {key: value for key, value in given.items() if value is not None}
        )

    def encode_part(self, finished: Sequence[FinishedRow], manifest: bytes) -> bytes:
        if [entry.row for entry in finished] != list(range(self.rows)):
            raise ValueError("a part holds every row of its shard exactly once, in order")
        return self._encoded(self._table, finished, manifest)

    def _encoded(self, rows: pa.Table, finished: Sequence[FinishedRow], manifest: bytes) -> bytes:
        outputs = pa.table(
            [
                pa.array([_output(entry, field.name) for entry in finished], field.type)
                for field in self._outputs
            ],
            schema=self._outputs,
        )
        part = rows.select(self._carried.names)
        for field, column in zip(outputs.schema, outputs.columns, strict=True):
            part = part.append_column(field, column)
        # The writer's pandas metadata describes another table than this one.
        part = part.replace_schema_metadata(None)
        sink = io.BytesIO()
        with pq.ParquetWriter(
            sink, part.schema, compression="zstd", compression_level=_ZSTD_LEVEL
        ) as writer:
            writer.write_table(part, row_group_size=_ROW_GROUP_ROWS)
            writer.add_key_value_metadata({FOOTER_KEY: manifest})
        return sink.getvalue()

    def difference(self, part: bytes) -> str | None:
        try:
            published = pq.read_table(io.BytesIO(part))
        except (pa.ArrowException, OSError) as problem:
            return f"it is not a whole Parquet file: {first_line(problem)}"
        if published.num_rows != self.rows:
            return f"{published.num_rows} rows, the input has {self.rows}"
        if wrong := _schema_difference(published.schema, self._part_schema()):
            return wrong
        for name in self._carried.names:
            row = _first_unlike(published.column(name), self._table.column(name))
            if row is not None:
                return f"row {row}: column {name!r} is not the input's"
        answered = pc.xor(
            pc.is_valid(published.column("completion")), pc.is_valid(published.column("error"))
        )
        if not pc.all(answered, min_count=0).as_py():
            row = answered.index(False).as_py()
            return f"row {row} has neither, or both, of completion and error"
        return None

    def _part_schema(self) -> pa.Schema:
        """As Parquet gives it back, which does not keep every type."""
        nothing = io.BytesIO(self._encoded(self._table.slice(0, 0), (), b"{}"))
        return pq.read_schema(nothing)


def _output(entry: FinishedRow, name: str) -> Any:
    value = getattr(entry, name)
    # Arrow knows tuples and dictionaries, but no dataclasses.
    return [asdict(position) for position in value] if isinstance(value, tuple) else value


def _cell(column: pa.ChunkedArray, row: int, what: str) -> Any:
    try:
        return column[row].as_py()
    except Exception as problem:
        # Not UTF-8, a date beyond Python's, a time zone nobody knows: Arrow holds more than Python.
        raise RowRejected(f"{what} cannot be read: {first_line(problem)}") from problem


def _schema_difference(published: pa.Schema, expected: pa.Schema) -> str | None:
    for name in expected.names:
        if name not in published.names:
            return f"column {name!r} is missing"
    for name in published.names:
        if name not in expected.names:
            return f"column {name!r} is neither carried nor an output"
    if published.names != expected.names:
        return f"its columns are {published.names}, not {expected.names}"
    for is_, should in zip(published.types, expected, strict=True):
        if is_ != should.type:
            return f"column {should.name!r} is {is_}, not {should.type}"
    return None


def _first_unlike(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int | None:
    """The first row that differs, where not-a-number equals itself, as it does not to pyarrow."""
    if one.equals(other):
        return None
    pairs = enumerate(zip(one, other, strict=True))
    return next((row for row, cells in pairs if not _same_cell(*cells)), None)


def _same_cell(one: pa.Scalar, other: pa.Scalar) -> bool:
    if one.equals(other) or not (one.is_valid and other.is_valid):
        return bool(one.is_valid == other.is_valid)
    # Down to the leaves, since a neighbour of the not-a-number may be what Python cannot hold.
    if isinstance(one, pa.DictionaryScalar) and isinstance(other, pa.DictionaryScalar):
        return _same_cell(one.value, other.value)
    if isinstance(one, pa.ListScalar) and isinstance(other, pa.ListScalar):
        return len(one) == len(other) and all(map(_same_cell, one.values, other.values))
    if isinstance(one, pa.StructScalar) and isinstance(other, pa.StructScalar):
        return one.type.names == other.type.names and all(
            _same_cell(one[i], other[i]) for i in range(len(one.type.names))
        )
    try:
        return repr(one.as_py()) == repr(other.as_py())
    except Exception:
        # Unequal to Arrow and unreadable to Python: it is no number, so Arrow's word stands.
        return False


def _read(shard: Shard, columns: Columns, options: StoreOptions) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    skip, left = shard.first_row, shard.rows
    try:
        with open_parquet(shard.uri, options) as parquet:
            schema = pa.schema([parquet.schema_arrow.field(name) for name in columns.read])
            stream = parquet.iter_batches(
                _READ_ROWS, row_groups=list(shard.row_groups), columns=list(columns.read)
            )
            for batch in stream:
                wanted = batch.slice(skip, left)
                skip = max(0, skip - batch.num_rows)
                left -= wanted.num_rows
                if wanted.num_rows:
                    batches.append(wanted)
                if left == 0:
                    break
    except OSError as problem:
        raise read_error(problem, shard.uri) from problem
    except (pa.ArrowException, IndexError) as problem:
        raise InputInvalid("not a whole Parquet file", where=shard.uri, why=str(problem)) from (
            problem
        )
    table = pa.Table.from_batches(batches).select(list(columns.read))
    if table.num_rows != shard.rows:
        raise InputInvalid(f"{shard.rows} rows planned, {table.num_rows} read", where=shard.uri)
    # Not cast without need: pyarrow cannot cast a slice of some nested types.
    return table if table.schema.equals(schema) else table.cast(schema)


def _overridden(spec: SamplingSpec, given: dict[str, Any]) -> Sampling:
    try:
        return SamplingSpec.model_validate(spec.model_dump() | given).core()
    except ValidationError as problem:
        wrong = problem.errors()[0]
        name = str(wrong["loc"][0])
        # min_tokens is also wrong when it is the job's own, and this row's max_tokens is smaller.
        name = name if name in given else "max_tokens"
        raise RowRejected(
            f"sampling column {spec.columns[name]!r} for {name}: "
            f"{wrong['msg'].removeprefix('Value error, ')}"
        ) from problem
