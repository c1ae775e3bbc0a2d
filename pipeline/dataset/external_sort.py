"""Sorting more rows than fit into memory: split by samples on disk, each part sorted by DuckDB."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.core.errors import JobInvalid

MEMORY_VARIABLE = "SPOTMILL_SORT_MEMORY"
_DEFAULT_MEMORY = "1GB"
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_FOLDER = "spotmill-sort-"
_LOCK = "lock"
_LOCKED_WITHIN_SECONDS = 60.0
_VECTOR_ROWS = 2_048
_SAMPLES = 8_192
_MOST_PARTS = 512
Key = tuple[bytes, int]


def externally_sorted(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, key: str, number: str
) -> Iterator[pa.RecordBatch]:
    """The rows by `key`, bytes, nulls last, and then by `number`; without `key`.

    Holds a few times `SPOTMILL_SORT_MEMORY` / 4 and keeps the rest in TMPDIR, which has to take all
    rows. Raises `JobInvalid` when that memory, or the disk, is not enough.
    """
    # DuckDB's own external sort has to hold 122,880 rows of all runs at once when it merges them,
    # however long the rows are; parts that fit into memory need no merging.
    part_bytes = sort_memory() // 4
    with _folder() as folder, _explained():
        spill = _Spill(folder, schema, key, number, min(part_bytes // 4, 64 * 2**20))
        for batch in batches:
            spill.add(batch)
        spill.write_out()
        parts = min(_MOST_PARTS, -(-spill.bytes // part_bytes))
        for part in spill.split(parts):
            yield from _sorted(part, folder, schema, key, number)


class _Spill:
    """Rows on disk, in pieces that fit into memory, and a sample of their keys."""

    def __init__(
        self, folder: Path, schema: pa.Schema, key: str, number: str, piece_bytes: int
    ) -> None:
        self.bytes = 0
        self._folder = folder
        self._schema = schema
        self._key, self._number = key, number
        self._piece_bytes = piece_bytes
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._pieces: list[Path] = []
        self._sample: list[Key] = []
        self._every = 1
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._take_sample(batch)
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= self._piece_bytes:
            self.write_out()

    def write_out(self) -> None:
        if not self._waiting:
            return
        self._pieces.append(self._folder / f"piece-{len(self._pieces)}")
        with pa.ipc.new_stream(self._pieces[-1], self._schema) as writer:
            for batch in self._waiting:
                writer.write_batch(batch)
        self.bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def split(self, parts: int) -> list[list[Path]]:
        """The rows in so many parts, of which each is over before the next begins."""
        splits = self._splits(parts)
        if not splits:
            return [self._pieces]
        paths = [self._folder / f"part-{number}" for number in range(len(splits) + 1)]
        with ExitStack() as stack:
            writers = [stack.enter_context(pa.ipc.new_stream(path, self._schema)) for path in paths]
            for piece in self._pieces:
                rows = _table(piece).combine_chunks()
                # Its disk is needed for what is made of it.
                piece.unlink()
                for number, wanted in self._by_part(rows, splits).items():
                    writers[number].write_table(rows.take(pa.array(wanted, pa.int64())))
        return [[path] for path in paths]

    def _by_part(self, rows: pa.Table, splits: list[Key]) -> dict[int, list[int]]:
        wanted: dict[int, list[int]] = {}
        for index, (key, number) in enumerate(self._keys(rows)):
            part = len(splits) if key is None else bisect_right(splits, (key, number))
            wanted.setdefault(part, []).append(index)
        return wanted

    def _keys(self, rows: pa.Table | pa.RecordBatch) -> Iterator[tuple[bytes | None, int]]:
        columns = (rows.column(self._key).to_pylist(), rows.column(self._number).to_pylist())
        return zip(*columns, strict=True)

    def _take_sample(self, batch: pa.RecordBatch) -> None:
        """Every so many rows, ever fewer, so that the sample is spread over all rows alike."""
        first = -self._rows % self._every
        self._rows += batch.num_rows
        wanted = range(first, batch.num_rows, self._every)
        taken = batch.select([self._key, self._number]).take(pa.array(wanted, pa.int64()))
        self._sample += [(key, number) for key, number in self._keys(taken) if key is not None]
        while self._sample and (
            len(self._sample) > _SAMPLES
            or sum(len(key) for key, _ in self._sample) > self._piece_bytes
        ):
            self._sample = self._sample[1::2]
            self._every *= 2

    def _splits(self, parts: int) -> list[Key]:
        sample = sorted(self._sample)
        at = {len(sample) * part // parts for part in range(1, parts)} if sample else set()
        return [sample[index] for index in sorted(at)]


def _table(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return stream.read_all()


def _sorted(
    paths: list[Path], folder: Path, schema: pa.Schema, key: str, number: str
) -> Iterator[pa.RecordBatch]:
    columns = ", ".join(name for name in schema.names if name != key)
    query = f"SELECT {columns} FROM part ORDER BY {key} NULLS LAST, {number}"  # noqa: S608
    reader = pa.RecordBatchReader.from_batches(schema, _batches(paths))
    with database_in(folder) as database:
        database.register("part", reader)
        yield from database.sql(query).to_arrow_reader(_VECTOR_ROWS)


def _batches(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream
        path.unlink()


@contextmanager
def sorting_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of the memory allowed, that keeps the rest in a folder of its own."""
    with _folder() as folder, database_in(folder) as database:
        yield database


@contextmanager
def database_in(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(
        config={
            "memory_limit": f"{sort_memory()}B",
            "temp_directory": str(folder / "duckdb"),
            # With more, each holds its share of the memory, and sorts run out of it.
            "threads": "1",
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    ) as database:
        yield database


def sort_memory() -> int:
    """Bytes. Raises `JobInvalid` for what is no size."""
    given = os.environ.get(MEMORY_VARIABLE, _DEFAULT_MEMORY)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*", given, re.IGNORECASE)
    if found is None or not (size := int(float(found[1]) * _UNITS[found[2].upper()])):
        raise JobInvalid(
            f"{given!r} is no size of memory",
            where=MEMORY_VARIABLE,
            hint="set it to a size such as 4GB or 512MB, or unset it",
        )
    return size


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as problem:
        why = str(problem).splitlines()[0]
        # While rows are fetched, it comes as another kind of error.
        if isinstance(problem, duckdb.OutOfMemoryException) or "Out of Memory" in why:
            hint = f"set {MEMORY_VARIABLE} (now {sort_memory() // 10**6}MB) higher"
        else:
            hint = "look whether the disk that TMPDIR names is full"
        raise JobInvalid(
            "the rows cannot be sorted with the memory and the disk allowed",
            where="shards.order",
            why=why,
            hint=f"{hint}, or plan with order: input",
        ) from problem


@contextmanager
def _folder() -> Iterator[Path]:
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as name:
        folder = Path(name)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _sweep() -> None:
    """Remove what killed planners left on this machine: their locks are nobody's any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*/{_LOCK}"):
        with suppress(OSError), path.open() as lock:
            # One that was made just now is about to be locked.
            if time.time() - path.stat().st_mtime > _LOCKED_WITHIN_SECONDS:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent)
