"""The rows of a shard, read from Parquet, and the part that answers them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline.core.errors import RowRejected
from pipeline.core.ports import Body
from pipeline.core.rows import FinishedRow, Prompt, Sampling
from pipeline.core.shards import Shard
from pipeline.dataset.allocation import give_memory_back
from pipeline.dataset.columns import resolve_columns
from pipeline.dataset.comparing import first_unlike, schema_difference
from pipeline.dataset.files import check_unchanged, first_line
from pipeline.dataset.outputs import output_schema
from pipeline.dataset.part_file import Piece, write_part
from pipeline.dataset.prompts import prompt_columns, prompt_maker
from pipeline.dataset.reading import chosen_rows
from pipeline.job import JobSpec, SamplingSpec
from pipeline.scratch.sink import sink
from pipeline.scratch.spool import Spool, SpoolBounds
from pipeline.stores.options import StoreOptions
from pipeline.stores.retry import retrying

_PART_IN_MEMORY_BYTES = 4 * 2**20
_NOT_EVERY_ROW = "a part holds every row of its shard exactly once, in order"


class ParquetSource:
    """Opens shards of one job's dataset. Safe to call from any thread."""

    def __init__(
        self,
        job: JobSpec,
        schema: pa.Schema,
        options: StoreOptions,
        bounds: SpoolBounds | None = None,
    ) -> None:
        self._job = job
        self._columns = resolve_columns(job, schema, job.input.uri)
        self._options = options
        self._bounds = bounds

    def open(self, shard: Shard) -> ParquetShard:
        """Raises `InputChanged` when the file is not, or is no longer, the planned one."""
        check_unchanged([shard], self._options)
        spool = retrying(f"read {shard.uri}", lambda: self._spooled(shard))
        # Checked again, for a file rewritten while it was read gives rows of both.
        check_unchanged([shard], self._options)
        return ParquetShard(self._job, self._columns.carried.names, spool)

    def _spooled(self, shard: Shard) -> Spool:
        where, columns = self._job.input.where, self._job.sampling.columns
        asked_by_row = [*prompt_columns(self._job.input), *columns.values()]
        spool = Spool(asked_by_row or self._columns.read[:1], self._bounds)
        for rows in chosen_rows(shard, self._columns, where, self._options):
            spool.append(rows)
        if spool.on_disk:
            give_memory_back()
        return spool


class ParquetShard:
    """A shard's rows, most of them on disk if they are many. Implements `ShardInput`."""

    def __init__(self, job: JobSpec, carried: Sequence[str], spool: Spool) -> None:
        self._carried = pa.schema([spool.schema.field(name) for name in carried])
        self._spool = spool
        self._sampling = job.sampling
        self._base = job.sampling.core()
        self._outputs = output_schema(job.sampling)
        self._prompt_columns = prompt_columns(job.input)
        self._make_prompt = prompt_maker(job.input)
        # Many rows say the same, and checking it takes longer than all else here.
        self._known_samplings = lru_cache(1_024)(lambda said: _overridden(job.sampling, dict(said)))

    @property
    def rows(self) -> int:
        return self._spool.rows

    def prompt(self, row: int) -> Prompt:
        batch, place = self._spool.row(row)
        return self._make_prompt(
            {
                name: _cell(batch.column(name), place, f"column {name!r}")
                for name in self._prompt_columns
            }
        )

    def sampling(self, row: int) -> Sampling:
        if not self._sampling.columns:
            return self._base
        batch, place = self._spool.row(row)
        given = {
            parameter: _cell(
                batch.column(column), place, f"sampling column {column!r} for {parameter}"
            )
            for parameter, column in self._sampling.columns.items()
        }
        said = {key: value for key, value in given.items() if value is not None}
        try:
            return self._known_samplings(tuple(said.items()))
        except TypeError:
            # Lists cannot be remembered.
            return _overridden(self._sampling, said)

    @contextmanager
    def part(self, finished: Iterable[FinishedRow], manifest: bytes) -> Iterator[Body]:
        self._spool.forget()
        if self._spool.on_disk:
            give_memory_back()
        with sink(_PART_IN_MEMORY_BYTES) as file:
            write_part(file, self._carried, self._outputs, self._pieces(finished), manifest)
            yield file.body()

    def _pieces(self, finished: Iterable[FinishedRow]) -> Iterator[Piece]:
        entries, first = iter(finished), 0
        for carried in self._spool.batches(self._carried.names):
            piece = list(islice(entries, carried.num_rows))
            if [entry.row for entry in piece] != list(range(first, first + carried.num_rows)):
                raise ValueError(_NOT_EVERY_ROW)
            yield carried, piece
            first += carried.num_rows
        if next(entries, None) is not None:
            raise ValueError(_NOT_EVERY_ROW)

    def difference(self, part: bytes) -> str | None:
        try:
            published = pq.read_table(io.BytesIO(part))
        except (pa.ArrowException, OSError) as problem:
            return f"it is not a whole Parquet file: {first_line(problem)}"
        if published.num_rows != self.rows:
            return f"{published.num_rows} rows, the input has {self.rows}"
        if wrong := schema_difference(published.schema, self._part_schema()):
            return wrong
        first = 0
        for batch in self._spool.batches(self._carried.names):
            for name in self._carried.names:
                said = published.column(name).slice(first, batch.num_rows)
                row = first_unlike(said, pa.chunked_array([batch.column(name)]))
                if row is not None:
                    return f"row {first + row}: column {name!r} is not the input's"
            first += batch.num_rows
        answered = pc.xor(
            pc.is_valid(published.column("completion")), pc.is_valid(published.column("error"))
        )
        if not pc.all(answered, min_count=0).as_py():
            row = answered.index(False).as_py()
            return f"row {row} has neither, or both, of completion and error"
        return None

    def _part_schema(self) -> pa.Schema:
        """As Parquet gives it back, which does not keep every type."""
        nothing = io.BytesIO()
        write_part(nothing, self._carried, self._outputs, (), b"{}")
        return pq.read_schema(nothing)


def _cell(column: pa.ChunkedArray, row: int, what: str) -> Any:
    try:
        return column[row].as_py()
    except Exception as problem:
        # Not UTF-8, a date beyond Python's, a time zone nobody knows: Arrow holds more than Python.
        raise RowRejected(f"{what} cannot be read: {first_line(problem)}") from problem


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
