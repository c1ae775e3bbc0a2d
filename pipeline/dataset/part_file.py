"""A part's file: what is carried through, the answers, and the manifest in its footer."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.manifest import FOOTER_KEY
from pipeline.core.rows import FinishedRow

ROW_GROUP_ROWS = 65_536
_ROW_GROUP_BYTES = 2**23
_ZSTD_LEVEL = 3

Piece: TypeAlias = tuple[pa.RecordBatch, Sequence[FinishedRow]]
"""Some rows as they are carried, and as they were answered."""


def write_part(
    file: io.IOBase,
    carried: pa.Schema,
    outputs: pa.Schema,
    pieces: Iterable[Piece],
    manifest: bytes,
) -> None:
    """Write the rows of all `pieces`, in row groups of as many rows or, if they are large, bytes.

    Holds one row group at a time.
    """
    # Without the metadata of the writer's pandas, which describes another table than this one.
    schema = pa.schema([*carried, *outputs])
    with pq.ParquetWriter(
        file, schema, compression="zstd", compression_level=_ZSTD_LEVEL
    ) as writer:
        group: list[pa.Table] = []
        rows = size = 0
        for batch, finished in pieces:
            piece = _table(schema, batch, outputs, finished)
            while piece.num_rows:
                taken = piece.slice(0, ROW_GROUP_ROWS - rows)
                piece = piece.slice(taken.num_rows)
                group.append(taken)
                rows, size = rows + taken.num_rows, size + taken.nbytes
                if rows == ROW_GROUP_ROWS or size >= _ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(group), row_group_size=ROW_GROUP_ROWS)
                    group, rows, size = [], 0, 0
        if group:
            writer.write_table(pa.concat_tables(group), row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata({FOOTER_KEY: manifest})


def _table(
    schema: pa.Schema, batch: pa.RecordBatch, outputs: pa.Schema, finished: Sequence[FinishedRow]
) -> pa.Table:
    answers = [
        pa.array([_output(entry, field.name) for entry in finished], field.type)
        for field in outputs
    ]
    return pa.Table.from_arrays([*batch.columns, *answers], schema=schema)


def _output(entry: FinishedRow, name: str) -> Any:
    value = getattr(entry, name)
    # Arrow knows tuples and dictionaries, but no dataclasses.
    return [asdict(position) for position in value] if isinstance(value, tuple) else value
