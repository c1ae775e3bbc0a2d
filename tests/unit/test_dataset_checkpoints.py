"""A checkpoint comes back from its file as it went in."""

from __future__ import annotations

import io
from dataclasses import replace

import pyarrow.parquet as pq
from hypothesis import given

from pipeline.core.checkpoint import Checkpoint
from pipeline.dataset.file_format import ParquetFormat
from tests.unit.strategies import bounded, checkpoints


@bounded
@given(checkpoints())
def test_a_checkpoint_survives_its_file(point: Checkpoint) -> None:
    files = ParquetFormat()
    assert files.decode_checkpoint(files.encode_checkpoint(point)) == point


@bounded
@given(checkpoints())
def test_two_attempts_never_write_the_same_bytes(point: Checkpoint) -> None:
    """What settles a create whose answer was lost is that bodies differ by attempt."""
    files = ParquetFormat()
    other = replace(point, nonce=point.nonce + "x")
    assert files.encode_checkpoint(point) != files.encode_checkpoint(other)


@bounded
@given(checkpoints())
def test_a_checkpoint_is_a_table_that_people_can_query(point: Checkpoint) -> None:
    table = pq.read_table(io.BytesIO(ParquetFormat().encode_checkpoint(point)))
    assert table.num_rows == len(point.finished) + len(point.in_flight)
    saved = dict(zip(table["row"].to_pylist(), table["tokens_so_far"].to_pylist(), strict=True))
    assert saved == {row.row: None for row in point.finished} | {
        row: list(tokens) for row, tokens in point.in_flight.items()
    }
