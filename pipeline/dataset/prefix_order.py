"""A dataset's rows, sorted by prompt, in bounded memory: DuckDB's external sort."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa

from pipeline.core.errors import JobInvalid, RowRejected, SpotmillError
from pipeline.core.rows import Prompt, TextPrompt
from pipeline.core.shards import FileVersion
from pipeline.dataset.carriers import carrier_schema, packed
from pipeline.dataset.columns import Columns, matching_rows
from pipeline.dataset.footers import SharedFilesystem
from pipeline.dataset.outputs import ROW_KEY
from pipeline.dataset.prompts import PromptMaker, prompt_columns, prompt_maker
from pipeline.dataset.row_stream import stream_rows
from pipeline.job import JobSpec
from pipeline.stores.options import StoreOptions

MEMORY_VARIABLE = "SPOTMILL_SORT_MEMORY"
_DEFAULT_MEMORY = "1GB"
_FOLDER = "spotmill-sort-"
_VECTOR_ROWS = 2_048
_PROMPT = "prompt"


def selected_rows(
    job: JobSpec, columns: Columns, files: Iterable[FileVersion], options: StoreOptions
) -> Iterator[pa.RecordBatch]:
    """The rows that the job answers, in input order, with their numbers in the whole input."""
    filesystem = SharedFilesystem()
    first = 0
    for file in files:
        for batch in stream_rows(file.uri, columns.read, options, filesystem):
            numbers = pa.array(range(first, first + batch.num_rows), pa.int64())
            first += batch.num_rows
            rows = batch.append_column(ROW_KEY, numbers)
            if job.input.where is not None:
                asked = pa.Table.from_batches([batch]).select(list(columns.asked))
                rows = rows.take(matching_rows(asked, job.input.where))
            if rows.num_rows:
                yield rows


def sorted_by_prompt(
    job: JobSpec, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """These rows by their prompts' bytes and then by number, those without a prompt last.

    Comes back as carriers. Raises what reading `batches` raises, and `JobInvalid` when the memory
    allowed is too little to sort with.
    """
    carried = carrier_schema(schema)
    schema = pa.schema([pa.field(f"c{i}", field.type) for i, field in enumerate(carried)])
    key = schema.names[carried.get_field_index(ROW_KEY)]
    stream = _Stream(_keyed(job, batches, schema))
    reader = pa.RecordBatchReader.from_batches(
        schema.append(pa.field(_PROMPT, pa.binary())), iter(stream)
    )
    with sorting_database() as database, stream.own_errors():
        database.register("unsorted", reader)
        columns = ", ".join(schema.names)
        query = f"SELECT {columns} FROM unsorted ORDER BY {_PROMPT} NULLS LAST, {key}"  # noqa: S608
        yield from database.sql(query).to_arrow_reader(_VECTOR_ROWS)


def _keyed(
    job: JobSpec, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    names, make = prompt_columns(job.input), prompt_maker(job.input)
    for batch in batches:
        prompts = pa.array(prompt_bytes(batch, names, make), pa.binary())
        arrays = [*map(packed, batch.columns), prompts]
        yield pa.record_batch(arrays, schema=schema.append(pa.field(_PROMPT, pa.binary())))


def prompt_bytes(
    batch: pa.RecordBatch, names: Sequence[str], make: PromptMaker
) -> Iterator[bytes | None]:
    """What each row is sorted by; None where it holds no usable prompt."""
    columns = [_cells(batch.column(name)) for name in names]
    for cells in zip(*columns, strict=True) if columns else ((),) * batch.num_rows:
        try:
            if any(cell is _UNREADABLE for cell in cells):
                yield None
                continue
            text = _text(make(dict(zip(names, cells, strict=True))))
        except RowRejected:
            yield None
        else:
            yield text.encode("utf-8", "surrogatepass")


_UNREADABLE = object()


def _cells(column: pa.Array) -> list[Any]:
    try:
        cells: list[Any] = column.to_pylist()
    except Exception:
        # Arrow holds more than Python: one such cell is no reason to lose its neighbours.
        return [_cell(cell) for cell in column]
    return cells


def _cell(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except Exception:
        return _UNREADABLE


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, TextPrompt):
        return prompt.text
    return "".join(f"{message['role']}\n{message['content']}\n" for message in prompt.messages)


class _Stream:
    """Batches handed to DuckDB, which would make words of the error that ends them."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except Exception as problem:
            self._error = problem
            raise

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, pa.ArrowException, OSError) as problem:
            if self._error is not None:
                raise self._error from None
            raise _unsorted(problem) from problem


def _unsorted(problem: Exception) -> SpotmillError:
    why = str(problem).splitlines()[0]
    if isinstance(problem, duckdb.OutOfMemoryException):
        return JobInvalid(
            "the rows cannot be sorted in the memory or on the disk allowed",
            where="shards.order",
            why=why,
            hint=f"set {MEMORY_VARIABLE} (now {_memory()}) higher, TMPDIR to a larger disk, "
            "or plan with order: input",
        )
    return SpotmillError(
        "the rows could not be sorted",
        where="shards.order",
        why=why,
        hint="look whether the disk that TMPDIR names is full, or plan with order: input",
    )


def _memory() -> str:
    return os.environ.get(MEMORY_VARIABLE, _DEFAULT_MEMORY)


@contextmanager
def sorting_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that keeps what exceeds its memory in a folder of its own. Raises `JobInvalid`."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-") as folder:
        try:
            database = duckdb.connect(
                config={
                    "memory_limit": _memory(),
                    "temp_directory": folder,
                    # With more, each holds its share of the memory, and sorts run out of it.
                    "threads": "1",
                    "preserve_insertion_order": "false",
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                }
            )
        except duckdb.Error as problem:
            raise JobInvalid(
                f"{_memory()!r} is no size of memory",
                where=MEMORY_VARIABLE,
                why=str(problem).splitlines()[0],
                hint="set it to a size such as 4GB, or unset it",
            ) from problem
        with database:
            yield database


def _sweep() -> None:
    """Remove what killed planners left on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            with suppress(OSError):
                shutil.rmtree(folder)
