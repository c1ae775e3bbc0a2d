"""How many rows of each shard a job's condition leaves, from the columns alone that it reads."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.core.shards import Shard
from pipeline.dataset.columns import depends_on_cells_alone, resolve_columns, sandbox
from pipeline.dataset.files import first_line, open_parquet
from pipeline.dataset.footers import SharedFilesystem
from pipeline.dataset.reading import chosen_rows
from pipeline.job import JobSpec
from pipeline.stores.options import StoreOptions
from pipeline.stores.retry import retrying

log = logging.getLogger("spotmill")

_AT_ONCE = 16
_AT_ONCE_BYTES = 32 * 2**20
"""What Arrow may hold of a shard's columns, since it reads them far ahead of what is asked for."""
_FORMAT = ds.ParquetFileFormat()


class Matching:
    """Counts the rows of a job's shards that it selects. Safe to call from any thread."""

    def __init__(self, job: JobSpec, schema: pa.Schema, options: StoreOptions) -> None:
        columns = resolve_columns(job, schema, job.input.uri)
        # A table without any column would have lost its number of rows.
        asked = columns.asked or columns.read[:1]
        self._columns = replace(columns, read=asked, asked=asked)
        self._schema = pa.schema([schema.field(name) for name in asked])
        self._where = job.input.where
        self._plain = self._where is not None and depends_on_cells_alone(self._where)
        self._options = options
        self._filesystem = SharedFilesystem()

    def rows(self, shards: Iterable[Shard]) -> dict[int, int]:
        """By shard id, as a run selects them. Row groups that can hold none, by their statistics,
        are not read. Raises what reading the shards raises."""
        if self._where is None:
            return {shard.id: shard.rows for shard in shards}
        in_order = sorted(shards, key=lambda shard: shard.id)
        by_file = [list(some) for _, some in groupby(in_order, key=lambda shard: shard.uri)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(self._of_file, by_file)
            return {shard_id: rows for one in found for shard_id, rows in one.items()}

    def share_read(self, shard: Shard) -> float:
        """Of a shard's bytes, those of the columns that the condition reads."""
        if self._where is None:
            return 0.0
        with open_parquet(shard.uri, self._options, self._filesystem) as file:
            return self._bytes(file.metadata, shard) / max(1, shard.bytes)

    def _of_file(self, shards: Sequence[Shard]) -> dict[int, int]:
        found = self._by_groups(shards) if self._plain else {}
        return {s.id: found[s.id] if s.id in found else self._row_by_row(s) for s in shards}

    def _by_groups(self, shards: Sequence[Shard]) -> dict[int, int]:
        """Those made of whole row groups, or of a part of one of which all or nothing is selected;
        none of large ones, nor where anything is wrong: reading the shard tells what."""
        found: dict[int, int] = {}
        try:
            filesystem, path = self._filesystem(shards[0].uri, self._options)
            file = _FORMAT.make_fragment(path, filesystem)
            with sandbox() as database:
                for groups, some in groupby(shards, key=lambda shard: shard.row_groups):
                    cut = list(some)
                    if self._bytes(file.metadata, cut[0]) > _AT_ONCE_BYTES:
                        continue
                    whole = sum(file.metadata.row_group(number).num_rows for number in groups)
                    part = file.subset(row_group_ids=list(groups))
                    rows = ds.FileSystemDataset([part], self._schema, _FORMAT)
                    database.register("rows_of_shard", rows)
                    [[count]] = database.sql(
                        f"SELECT count(*) FROM rows_of_shard WHERE (\n{self._where}\n)"  # noqa: S608
                    ).fetchall()
                    if count in (0, whole) or cut[0].rows == whole:
                        found |= {shard.id: shard.rows * count // whole for shard in cut}
        except (duckdb.Error, pa.ArrowException, OSError, IndexError) as problem:
            log.debug("%s is counted row by row: %s", shards[0].uri, first_line(problem))
        return found

    def _bytes(self, file: pq.FileMetaData, shard: Shard) -> int:
        # A leaf's path begins with its column's name, which may have dots itself.
        asked = tuple(f"{name}." for name in self._columns.asked)
        chunks = (
            group.column(number)
            for group in map(file.row_group, shard.row_groups)
            for number in range(group.num_columns)
        )
        return sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if f"{chunk.path_in_schema}.".startswith(asked)
        )

    def _row_by_row(self, shard: Shard) -> int:
        def read() -> int:
            tables = chosen_rows(shard, self._columns, self._where, self._options)
            return sum(table.num_rows for table in tables)

        return retrying(f"read {shard.uri}", read)
