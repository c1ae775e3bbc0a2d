"""A dataset's rows in the order of their prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.core.errors import RowRejected
from pipeline.core.rows import Prompt, TextPrompt
from pipeline.core.shards import FileVersion
from pipeline.dataset.carriers import carrier_schema, packed
from pipeline.dataset.columns import Columns, matching_rows
from pipeline.dataset.external_sort import externally_sorted
from pipeline.dataset.footers import SharedFilesystem
from pipeline.dataset.outputs import ROW_KEY
from pipeline.dataset.prompts import PromptMaker, prompt_columns, prompt_maker
from pipeline.dataset.row_stream import stream_rows
from pipeline.job import JobSpec
from pipeline.stores.options import StoreOptions

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

    Comes back as carriers. Raises what reading `batches` raises, and as `externally_sorted` does.
    """
    carried = carrier_schema(schema)
    fields = [pa.field(f"c{i}", field.type) for i, field in enumerate(carried)]
    number = fields[carried.get_field_index(ROW_KEY)].name
    keyed = pa.schema([*fields, pa.field(_PROMPT, pa.binary())])
    return externally_sorted(_keyed(job, batches, keyed), keyed, _PROMPT, number)


def _keyed(
    job: JobSpec, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    names, make = prompt_columns(job.input), prompt_maker(job.input)
    for batch in batches:
        prompts = pa.array(prompt_bytes(batch, names, make), pa.binary())
        yield pa.record_batch([*map(packed, batch.columns), prompts], schema=schema)


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
