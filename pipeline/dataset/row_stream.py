"""The rows of a file as a stream that goes on where it was after a store was away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import InputInvalid
from pipeline.dataset.files import first_line, open_parquet, read_error
from pipeline.dataset.footers import SharedFilesystem
from pipeline.stores.options import StoreOptions
from pipeline.stores.retry import retrying

_BATCH_BYTES = 16 * 2**20
_LARGEST_BATCH_ROWS = 8_192


def stream_rows(
    uri: str, columns: Sequence[str], options: StoreOptions, filesystem: SharedFilesystem
) -> Iterator[pa.RecordBatch]:
    """Every row once and in order, a few megabytes at a time.

    Raises `InputInvalid` for a file that is broken, `StoreUnavailable` for a store that stays away.
    """
    rows = _Rows(uri, columns, options, filesystem)
    while (batch := retrying(f"read {uri}", rows.next_batch)) is not None:
        yield batch


class _Rows:
    def __init__(
        self, uri: str, columns: Sequence[str], options: StoreOptions, filesystem: SharedFilesystem
    ) -> None:
        self._uri = uri
        self._columns = list(columns)
        self._options = options
        self._filesystem = filesystem
        self._given = 0
        self._batches: Iterator[pa.RecordBatch] | None = None

    def next_batch(self) -> pa.RecordBatch | None:
        """None at the end. After an error, the next call begins with the first row not given."""
        if self._batches is None:
            self._batches = self._from_here()
        try:
            batch = next(self._batches, None)
        except Exception as problem:
            # A stream that raised is at its end, which is not the file's.
            self._batches = None
            if isinstance(problem, OSError):
                raise read_error(problem, self._uri) from problem
            if isinstance(problem, pa.ArrowException):
                raise InputInvalid(
                    "not a whole Parquet file", where=self._uri, why=first_line(problem)
                ) from problem
            raise
        if batch is not None:
            self._given += batch.num_rows
        return batch

    def _from_here(self) -> Iterator[pa.RecordBatch]:
        with open_parquet(self._uri, self._options, self._filesystem) as parquet:
            metadata = parquet.metadata
            skip, group = self._given, 0
            while group < metadata.num_row_groups and skip >= metadata.row_group(group).num_rows:
                skip -= metadata.row_group(group).num_rows
                group += 1
            left = list(range(group, metadata.num_row_groups))
            stream = parquet.iter_batches(_batch_rows(metadata), left, columns=self._columns)
            for batch in stream:
                wanted = batch.slice(skip)
                skip = max(0, skip - batch.num_rows)
                if wanted.num_rows:
                    yield wanted.select(self._columns)


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Few enough that long rows do not fill the memory, as far as the footer tells their size."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    fitting = _BATCH_BYTES * metadata.num_rows // max(1, size)
    return int(max(1, min(_LARGEST_BATCH_ROWS, fitting)))
