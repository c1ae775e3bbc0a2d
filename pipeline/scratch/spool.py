"""The input rows of a shard: in memory while they are few, else on disk, in small batches."""

from __future__ import annotations

import io
import os
import threading
import weakref
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.core.shards import STRETCH_ROWS
from pipeline.scratch.disk import explained, unnamed_file, write_all

_WHAT = "the shard's rows do not fit into memory"


@dataclass(frozen=True, slots=True)
class SpoolBounds:
    """What is in memory at most, and how large a batch is at most; bytes are Arrow's.

    `cache_rows` are the rows of batches that were asked for last, if they are not more than
    `cache_bytes`.
    """

    in_memory_bytes: int = 2 * 2**20
    batch_rows: int = 1_024
    batch_bytes: int = 2**18
    cache_rows: int = STRETCH_ROWS * 5 // 4
    cache_bytes: int = 2**25


class Spool:
    """Written once from the first row to the last, then read from any thread.

    The columns in `asked` can be asked for by row, and lie apart from the rest; `schema` is that of
    the first table. Raises `StoreDenied` when the disk is full or cannot be used.
    """

    def __init__(self, asked: Collection[str], bounds: SpoolBounds | None = None) -> None:
        self.rows = 0
        self.schema = pa.schema([])
        self._bounds = bounds or SpoolBounds()
        self._asked = frozenset(asked)
        self._tracks: tuple[list[str], list[str]] = ([], [])
        self._ends = array("Q")
        self._memory: list[pa.RecordBatch] | None = []
        self._memory_bytes = 0
        self._disk: io.RawIOBase | None = None
        self._cuts = array("Q", [0])
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        self._cached_rows = self._cached_bytes = 0

    @property
    def on_disk(self) -> bool:
        return self._disk is not None

    def append(self, rows: pa.Table) -> None:
        """Keep these rows after those that came before."""
        if not self.schema.names:
            self.schema = rows.schema
            names = rows.schema.names
            self._tracks = (
                [name for name in names if name in self._asked],
                [name for name in names if name not in self._asked],
            )
        for batch in rows.to_batches():
            for cut in self._cut(batch):
                self._keep(cut)

    def row(self, row: int) -> tuple[pa.RecordBatch, int]:
        """A batch of `asked` columns in which a row is, and its place there."""
        number = bisect_right(self._ends, row)
        first = self._ends[number - 1] if number else 0
        return self._batch_asked(number), row - first

    def forget(self) -> None:
        """Free the rows asked for last: hardly any will be asked for again."""
        with self._lock:
            self._cache.clear()
            self._cached_rows = self._cached_bytes = 0

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows in order, with these columns."""
        for number in range(len(self._ends)):
            batch = self._read(number, 0) if self._memory is None else self._memory[number]
            if missing := [name for name in names if name not in batch.schema.names]:
                rest = self._read(number, 1)
                for name in missing:
                    batch = batch.append_column(rest.schema.field(name), rest.column(name))
            yield batch.select(list(names))

    def _cut(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        pieces = max(
            -(-batch.num_rows // self._bounds.batch_rows),
            -(-batch.nbytes // self._bounds.batch_bytes),
        )
        rows = max(1, -(-batch.num_rows // max(1, pieces)))
        for first in range(0, batch.num_rows, rows):
            yield batch.slice(first, rows)

    def _keep(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        self._ends.append(self.rows)
        if self._memory is None:
            self._write(batch)
            return
        self._memory.append(batch)
        self._memory_bytes += batch.nbytes
        if self._memory_bytes > self._bounds.in_memory_bytes:
            with explained(_WHAT):
                self._disk = unnamed_file()
            weakref.finalize(self, self._disk.close)
            kept, self._memory = self._memory, None
            for one in kept:
                self._write(one)

    def _write(self, batch: pa.RecordBatch) -> None:
        assert self._disk is not None  # noqa: S101 - asked for only beyond what memory takes
        for names in self._tracks:
            if not names:
                self._cuts.append(self._cuts[-1])
                continue
            columns = batch.select(names)
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, columns.schema) as writer:
                writer.write_batch(columns)
            with explained(_WHAT):
                self._cuts.append(self._cuts[-1] + write_all(self._disk, stream.getvalue()))

    def _read(self, number: int, track: int) -> pa.RecordBatch:
        assert self._disk is not None  # noqa: S101 - asked for only beyond what memory takes
        at = 2 * number + track
        first, end = self._cuts[at], self._cuts[at + 1]
        with explained(_WHAT):
            body = os.pread(self._disk.fileno(), end - first, first)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            return stream.read_next_batch()

    def _batch_asked(self, number: int) -> pa.RecordBatch:
        if self._memory is not None:
            return self._memory[number]
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            batch = self._cache[number] = self._read(number, 0)
            self._cached_rows += batch.num_rows
            self._cached_bytes += batch.nbytes
            while len(self._cache) > 1 and (
                self._cached_rows > self._bounds.cache_rows
                or self._cached_bytes > self._bounds.cache_bytes
            ):
                _, oldest = self._cache.popitem(last=False)
                self._cached_rows -= oldest.num_rows
                self._cached_bytes -= oldest.nbytes
            return batch
