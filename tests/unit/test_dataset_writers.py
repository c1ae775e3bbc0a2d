"""Parquet as others write it: planned, read, and carried through with its types."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.datasets import job_over, opened, part_of, planned, prompts, written

ROWS = 250
QUESTIONS = [f"question {n}" for n in range(ROWS)]
WHEN = datetime(2026, 11, 20, 6, tzinfo=UTC)


def rich_table() -> pa.Table:
    """Columns of the kinds that come in real datasets, with nulls in most."""
    some = [n % 5 != 0 for n in range(ROWS)]

    def with_nulls(values: Sequence[object], kind: pa.DataType) -> pa.Array:
        return pa.array([v if keep else None for v, keep in zip(values, some, strict=True)], kind)

    ids = list(range(ROWS))
    return pa.table(
        {
            "q": pa.array(QUESTIONS),
            "large": with_nulls([f"text {n}" for n in ids], pa.large_string()),
            "bytes": with_nulls([bytes([n % 256]) for n in ids], pa.binary()),
            "category": with_nulls([f"c{n % 3}" for n in ids], pa.string()).dictionary_encode(),
            "when": with_nulls([WHEN + timedelta(hours=n) for n in ids], pa.timestamp("us", "UTC")),
            "local": with_nulls(
                [WHEN + timedelta(hours=n) for n in ids], pa.timestamp("ms", "Europe/Paris")
            ),
            "nanos": with_nulls(ids, pa.timestamp("ns")),
            "day": with_nulls([date(2026, 1, 1 + n % 28) for n in ids], pa.date32()),
            "price": with_nulls([Decimal(n) / 100 for n in ids], pa.decimal128(12, 2)),
            "huge": with_nulls([Decimal(10**40 + n) for n in ids], pa.decimal256(50, 0)),
            "small": with_nulls([n % 100 for n in ids], pa.int8()),
            "unsigned": with_nulls([2**40 + n for n in ids], pa.uint64()),
            "float": with_nulls([n / 3 for n in ids], pa.float32()),
            "flag": with_nulls([n % 2 == 0 for n in ids], pa.bool_()),
            "tags": with_nulls([[f"t{n}", None] for n in ids], pa.list_(pa.string())),
            "numbers": with_nulls([[n, n] for n in ids], pa.list_(pa.int16(), 2)),
            "nested": with_nulls(
                [{"a": n, "b": [{"c": str(n)}]} for n in ids],
                pa.struct([("a", pa.int32()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
            ),
            "attributes": with_nulls(
                [[(f"k{n}", n)] for n in ids], pa.map_(pa.string(), pa.int64())
            ),
            "nothing": pa.nulls(ROWS),
        }
    )


def check_carried(path: Path, shard_rows: int = 60) -> None:
    """Every column that `pyarrow` reads is in the parts, equal, in order and of its type."""
    job = job_over(path, shard_rows=shard_rows)
    expected = pq.read_table(path)
    parts = []
    for shard in opened(job):
        part = part_of(shard)
        assert shard.difference(part) is None
        parts.append(pq.read_table(io.BytesIO(part)))
    together = pa.concat_tables(parts)
    assert together.num_rows == expected.num_rows
    assert together.schema.names[: expected.num_columns] == expected.schema.names
    for name in expected.schema.names:
        assert together.schema.field(name).type == expected.schema.field(name).type, name
        assert together.column(name).to_pylist() == expected.column(name).to_pylist(), name


def write_pyarrow(path: Path) -> None:
    written(path, rich_table(), row_group_size=70, compression="snappy")


def write_pyarrow_zstd(path: Path) -> None:
    written(path, rich_table(), row_group_size=33, compression="zstd", use_dictionary=False)


def write_pyarrow_old(path: Path) -> None:
    simple = rich_table().select(["q", "large", "when", "price", "tags", "nested"])
    written(path, simple, version="1.0", data_page_version="1.0", store_schema=False)


def write_pyarrow_pages(path: Path) -> None:
    written(path, rich_table(), data_page_version="2.0", compression="lz4", data_page_size=512)


def write_pandas(path: Path) -> None:
    frame = pd.DataFrame(
        {
            "q": QUESTIONS,
            "category": pd.Categorical([f"c{n % 3}" for n in range(ROWS)]),
            "when": pd.date_range(WHEN, periods=ROWS, freq="h"),
            "maybe": pd.array([n if n % 2 else None for n in range(ROWS)], dtype="Int64"),
            "float": [n / 3 if n % 2 else None for n in range(ROWS)],
        },
        index=[f"row {n}" for n in range(ROWS)],
    )
    frame.to_parquet(path)


def write_polars(path: Path) -> None:
    pl.DataFrame(
        {
            "q": QUESTIONS,
            "category": pl.Series([f"c{n % 3}" for n in range(ROWS)], dtype=pl.Categorical),
            "kind": pl.Series(["a", "b"] * (ROWS // 2), dtype=pl.Enum(["a", "b"])),
            "when": [WHEN + timedelta(hours=n) for n in range(ROWS)],
            "tags": [[f"t{n}"] if n % 2 else None for n in range(ROWS)],
            "nested": [{"a": n, "b": None} for n in range(ROWS)],
            "price": pl.Series([Decimal(n) for n in range(ROWS)], dtype=pl.Decimal(12, 2)),
        }
    ).write_parquet(path, row_group_size=64)


def write_duckdb(path: Path) -> None:
    with duckdb.connect() as database:
        database.execute("CREATE TYPE kind AS ENUM ('a', 'b')")
        database.execute(
            f"""
            COPY (
                SELECT 'question ' || n AS q, n::HUGEINT AS huge, (n / 3)::DECIMAL(10, 3) AS price,
                       TIMESTAMPTZ '2026-11-20 06:00:00+00' + n * INTERVAL 1 HOUR AS "when",
                       (CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END)::kind AS kind,
                       [n, NULL] AS numbers, {{'a': n, 'b': [{{'c': 'x'}}]}} AS nested,
                       MAP {{'k': n}} AS attributes, uuid() AS id, TIME '12:00:00' AS at
                FROM range({ROWS}) t(n)
            ) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 100, COMPRESSION zstd)
            """  # noqa: S608
        )


writers = pytest.mark.parametrize(
    "write",
    [
        write_pyarrow,
        write_pyarrow_zstd,
        write_pyarrow_old,
        write_pyarrow_pages,
        write_pandas,
        write_polars,
        write_duckdb,
    ],
)


@writers
def test_every_writers_rows_are_planned_and_read(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "data.parquet"
    write(path)
    job = job_over(path, shard_rows=60)
    shards = planned(job).shards
    assert sum(shard.rows for shard in shards) == ROWS
    assert max(shard.rows for shard in shards) <= 60
    assert prompts(job) == QUESTIONS


@writers
def test_every_writers_columns_are_carried_through(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "data.parquet"
    write(path)
    check_carried(path)


@writers
def test_a_condition_works_on_every_writers_rows(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "data.parquet"
    write(path)
    job = job_over(path, where="q LIKE '%7'", columns=["q"], shard_rows=60)
    assert prompts(job) == [question for question in QUESTIONS if question.endswith("7")]


def test_a_prompt_may_be_dictionary_encoded(tmp_path: Path) -> None:
    words = pa.chunked_array(
        [pa.array(["a", "b"] * 40).dictionary_encode(), pa.array(["c", "d"]).dictionary_encode()]
    )
    path = written(tmp_path / "a.parquet", {"q": words}, row_group_size=30)
    assert prompts(job_over(path)) == ["a", "b"] * 40 + ["c", "d"]
    assert prompts(job_over(path, where="q IN ('b', 'c')")) == ["b"] * 40 + ["c"]
    check_carried(path, shard_rows=25)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_may_be_of_any_text_type(tmp_path: Path, kind: pa.DataType) -> None:
    path = written(tmp_path / "a.parquet", {"q": pa.array(["x", "ü", "漢"], kind)})
    assert prompts(job_over(path)) == ["x", "ü", "漢"]
    check_carried(path)


def test_not_a_number_is_carried_through(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["a", "b"], "x": [float("nan"), 1.0]})
    [shard] = opened(job_over(path))
    assert shard.difference(part_of(shard)) is None


def test_empty_row_groups_are_passed_over(tmp_path: Path) -> None:
    table = pa.table({"q": QUESTIONS[:10]})
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        for piece in (table.slice(0, 0), table.slice(0, 4), table.slice(0, 0), table.slice(4)):
            writer.write_table(piece)
    assert prompts(job_over(path)) == QUESTIONS[:10]
    assert prompts(job_over(path, shard_rows=3)) == QUESTIONS[:10]


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a/z", "c"):
        written(tmp_path / f"{name}.parquet", {"q": [name], "n": [1]})
    written(tmp_path / "_hidden.parquet", {"other": [1]})
    written(tmp_path / "_delta_log" / "x.parquet", {"other": [1]})
    written(tmp_path / "empty.parquet", pa.table({"q": QUESTIONS[:1], "n": [1]}).slice(0, 0))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").write_text("no parquet")
    assert prompts(job_over(tmp_path)) == ["a/z", "b", "c"]
    assert prompts(job_over(f"{tmp_path}/")) == ["a/z", "b", "c"]
    assert prompts(job_over(f"{tmp_path}/[bc].parquet")) == ["b", "c"]
    assert prompts(job_over(f"file://{tmp_path}/b.parquet")) == ["b"]


def test_names_of_columns_may_hold_dots_and_quotes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], "q.q": ["y"], 'a "b"': [1], "q.": [2]})
    assert prompts(job_over(path)) == ["x"]
    assert prompts(job_over(path, prompt="q.q")) == ["y"]
    check_carried(path)


def test_a_template_without_columns_asks_every_row_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x", "y", "z"]})
    assert prompts(job_over(path, template="Tell a joke.")) == ["Tell a joke."] * 3
    assert prompts(job_over(path, template="Tell a joke.", columns=[])) == ["Tell a joke."] * 3
