"""Parquet files that are the same bytes whoever makes them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.money import DOLLAR_GRAIN, MICROS_PER_SECOND

MONEY = pa.decimal128(38, 12)
MOMENT = pa.timestamp("us", "UTC")
SECONDS = pa.decimal128(18, 6)
_HOUR_MICROS = 3_600 * MICROS_PER_SECOND
RECORDS_AT_ONCE = 8_192
"""Each has some six kilobytes as a Python object; they become a row group."""


def encode(
    records: Iterable[Mapping[str, Any]], schema: pa.Schema, metadata: Mapping[str, str]
) -> bytes:
    """The same records and metadata give the same bytes. Few of the records are held at once."""
    sink = io.BytesIO()
    left = iter(records)
    with pq.ParquetWriter(sink, schema.with_metadata(metadata), compression="zstd") as writer:
        while some := list(islice(left, RECORDS_AT_ONCE)):
            writer.write_batch(pa.RecordBatch.from_pylist(some, schema))
    return sink.getvalue()


def to_grain(amount: Decimal | None) -> Decimal | None:
    """As a `MONEY` column holds it: a price may have been written with more digits."""
    return None if amount is None else amount.quantize(DOLLAR_GRAIN)


def hours(micros: int) -> Decimal:
    return (Decimal(micros) / _HOUR_MICROS).quantize(DOLLAR_GRAIN)


def seconds(micros: int) -> Decimal:
    return Decimal(micros).scaleb(-6)


def tags_text(tags: Mapping[str, str]) -> str:
    """A JSON object, which DuckDB's `->>` reads."""
    return json.dumps(dict(tags), ensure_ascii=False)
