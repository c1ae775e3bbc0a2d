"""The rows of a shard, streamed from its Parquet file a few at a time, and those chosen of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import InputInvalid
from pipeline.core.shards import Shard
from pipeline.dataset.columns import Columns, condition, looks_beyond_its_row, matching_rows
from pipeline.dataset.files import open_parquet, read_error
from pipeline.stores.options import StoreOptions

_READ_ROWS = 4_096
_READ_BYTES = 2**20
_FETCHED_WHOLE_BYTES = 4 * 2**20


def chosen_rows(
    shard: Shard, columns: Columns, where: str | None, options: StoreOptions
) -> Iterator[pa.Table]:
    """The rows of a shard for which `where` holds, in order, some thousands at a time.

    Raises `InputInvalid` when the file is not whole or holds other rows than were planned, and
    `JobInvalid` when the condition does not work on them.
    """
    if where is None:
        yield from rows_of(shard, columns.read, options)
    elif looks_beyond_its_row(where):
        asked = pa.concat_tables(rows_of(shard, columns.asked, options))
        indices = matching_rows(asked, where)
        del asked
        for first, rows in _numbered(rows_of(shard, columns.read, options)):
            wanted = pc.and_(
                pc.greater_equal(indices, first), pc.less(indices, first + rows.num_rows)
            )
            yield rows.take(pc.subtract(indices.filter(wanted), first))
    else:
        with condition(where) as matching:
            for first, rows in _numbered(rows_of(shard, columns.read, options)):
                yield rows.take(matching(rows.select(list(columns.asked)), first))


def rows_of(shard: Shard, names: Sequence[str], options: StoreOptions) -> Iterator[pa.Table]:
    """These columns of a shard's rows, as the file's schema has them. Raises `InputInvalid`."""
    skip, left = shard.first_row, shard.rows
    try:
        with ExitStack() as open_files:
            parquet = open_files.enter_context(open_parquet(shard.uri, options))
            schema = pa.schema([parquet.schema_arrow.field(name) for name in names])
            for batch in _batches(parquet, shard, names, options, open_files):
                wanted = batch.slice(skip, left)
                skip = max(0, skip - batch.num_rows)
                left -= wanted.num_rows
                if wanted.num_rows:
                    table = pa.Table.from_batches([wanted]).select(list(names))
                    # Not cast without need: pyarrow cannot cast a slice of some nested types.
                    yield table if table.schema.equals(schema) else table.cast(schema)
                if left == 0:
                    return
    except OSError as problem:
        raise read_error(problem, shard.uri) from problem
    except (pa.ArrowException, IndexError) as problem:
        raise InputInvalid("not a whole Parquet file", where=shard.uri, why=str(problem)) from (
            problem
        )
    raise InputInvalid(f"{shard.rows} rows planned, {shard.rows - left} read", where=shard.uri)


def _batches(
    parquet: pq.ParquetFile,
    shard: Shard,
    names: Sequence[str],
    options: StoreOptions,
    open_files: ExitStack,
) -> Iterator[pa.RecordBatch]:
    streamed: pq.ParquetFile | None = None
    for number in shard.row_groups:
        group = parquet.metadata.row_group(number)
        reader = parquet
        if group.total_byte_size > _FETCHED_WHOLE_BYTES:
            # `parquet` fetches all the columns of a row group ahead, and holds them.
            reader = streamed = streamed or open_files.enter_context(
                open_parquet(shard.uri, options, buffer_bytes=_READ_BYTES)
            )
        rows = group.num_rows * _READ_BYTES // max(1, group.total_byte_size)
        rows = min(_READ_ROWS, max(1, rows))
        # In this thread: each thread that takes memory keeps some of it for later.
        yield from reader.iter_batches(
            rows, row_groups=[number], columns=list(names), use_threads=False
        )


def _numbered(tables: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Each with the number of its first row."""
    first = 0
    for table in tables:
        yield first, table
        first += table.num_rows
