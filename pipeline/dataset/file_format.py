"""A checkpoint as a Parquet file: finished rows and tokens in flight, the account in its footer."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.checkpoint import Attempt, Checkpoint
from pipeline.core.errors import ObjectDamaged
from pipeline.core.manifest import FOOTER_KEY
from pipeline.core.poison import strike_from_json
from pipeline.core.rows import FinishedRow
from pipeline.dataset.outputs import LOGPROBS, OUTPUT_SCHEMA

_ACCOUNT_KEY = b"spotmill.checkpoint"
_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("completion", pa.string()),
        ("finish_reason", pa.string()),
        ("error", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        LOGPROBS,
        pa.field("tokens_so_far", pa.list_(pa.int32())),
    ]
)


class ParquetFormat:
    """Implements `FileFormat`. A row with `tokens_so_far` is in flight, any other finished."""

    def encode_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        account = {
            "shard_id": checkpoint.shard_id,
            "epoch": checkpoint.epoch,
            "seq": checkpoint.seq,
            "nonce": checkpoint.nonce,
            "attempt": checkpoint.attempt.to_json(),
            "strikes": [asdict(strike) for strike in checkpoint.strikes],
        }
        arrays = [pa.array(_cells(checkpoint, field.name), field.type) for field in _SCHEMA]
        table = pa.Table.from_arrays(
            arrays, schema=_SCHEMA.with_metadata({_ACCOUNT_KEY: json.dumps(account)})
        )
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    def decode_checkpoint(self, body: bytes) -> Checkpoint:
        try:
            return self._decode_checkpoint(body)
        except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as problem:
            raise ObjectDamaged("not a whole checkpoint", why=repr(problem)) from problem

    def _decode_checkpoint(self, body: bytes) -> Checkpoint:
        table = pq.read_table(io.BytesIO(body))
        account = json.loads(table.schema.metadata[_ACCOUNT_KEY])
        finished: list[FinishedRow] = []
        in_flight: dict[int, tuple[int, ...]] = {}
        for row in table.to_pylist():
            tokens = row.pop("tokens_so_far")
            if tokens is None:
                finished.append(FinishedRow.from_json(row))
            else:
                in_flight[row["row"]] = tuple(tokens)
        return Checkpoint(
            shard_id=account["shard_id"],
            epoch=account["epoch"],
            seq=account["seq"],
            nonce=account["nonce"],
            finished=tuple(finished),
            in_flight=in_flight,
            attempt=Attempt.from_json(account["attempt"]),
            strikes=tuple(strike_from_json(strike) for strike in account["strikes"]),
        )

    def manifest_of_part(self, body: bytes) -> bytes | None:
        try:
            metadata: dict[bytes, bytes] = pq.read_metadata(io.BytesIO(body)).metadata or {}
        except (pa.ArrowInvalid, OSError):
            return None
        return metadata.get(FOOTER_KEY.encode())

    def rows_of_part(self, body: bytes) -> list[FinishedRow]:
        try:
            table = pq.read_table(io.BytesIO(body))
            for field in OUTPUT_SCHEMA:
                _check_column(table, field)
            rows = table.select(OUTPUT_SCHEMA.names).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as problem:
            raise ObjectDamaged("not a whole Parquet file", why=str(problem)) from problem
        return [FinishedRow(number, **row) for number, row in enumerate(rows)]


def _cells(checkpoint: Checkpoint, name: str) -> Sequence[Any]:
    """A column at a time: a dictionary for each row took twice as long beside the engine."""
    finished, in_flight = checkpoint.finished, checkpoint.in_flight
    if name == "row":
        return [*(row.row for row in finished), *in_flight]
    if name == "tokens_so_far":
        return [*[None] * len(finished), *in_flight.values()]
    answers = [getattr(row, name) for row in finished]
    if name == LOGPROBS.name:
        # Arrow knows tuples and dictionaries, but no dataclasses.
        answers = [found and [asdict(position) for position in found] for found in answers]
    return [*answers, *[None] * len(in_flight)]


def _check_column(table: pa.Table, field: pa.Field) -> None:
    if field.name not in table.schema.names:
        raise ObjectDamaged(f"column {field.name!r} is missing")
    column = table.column(field.name)
    if column.type != field.type:
        raise ObjectDamaged(f"column {field.name!r} is {column.type}, not {field.type}")
    if field.type == pa.int64() and column.null_count:
        row = column.is_null().index(True).as_py()
        raise ObjectDamaged(f"row {row}: {field.name} is empty")
