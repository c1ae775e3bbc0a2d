"""`costs.parquet` as its readers see it."""

from __future__ import annotations

import io
import json
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from pipeline.core.money import NodePrice, sum_of
from pipeline.exports.cost_rows import CostRow
from pipeline.exports.costs import COSTS_SCHEMA, encode_costs
from pipeline.exports.parquet import RECORDS_AT_ONCE, encode
from tests.unit.exported import TAGS, Closed, closed_books, cost_row
from tests.unit.strategies import any_prices, bounded


def various() -> list[CostRow]:
    """Attempts and a rest, spot and on demand, to the last digit."""
    odd = Decimal("0.333333333333")
    return [
        cost_row(),
        cost_row(shard_id=13, useful=odd, price=NodePrice(odd, "a market")),
        cost_row(shard_id=None, epoch=None, end=None, overhead=Decimal("4.000000000001")),
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("costs") / "costs.parquet"
    path.write_bytes(encode_costs(various()))
    return path


@bounded
@given(closed_books())
def test_its_costs_add_up_to_the_last_digit(closed: Closed) -> None:
    table = pl.read_parquet(encode_costs(closed.rows()))
    assert table["cost"].sum() == Decimal(closed.run["cost"]["total"])
    for row in table.iter_rows(named=True):
        parts = [row[f"cost_{part}"] for part in ("useful", "wasted", "overhead")]
        assert sum(parts, Decimal(0)) == row["cost"]


@bounded
@given(closed_books(any_prices()))
def test_the_same_books_make_the_same_bytes(closed: Closed) -> None:
    body = encode_costs(closed.rows())
    assert body == encode_costs(closed.rows())
    assert pq.read_schema(io.BytesIO(body)).equals(COSTS_SCHEMA)


def test_duckdb_and_polars_read_the_same(file: Path) -> None:
    by_polars = pl.read_parquet(file)
    with duckdb.connect() as database:
        table = database.read_parquet(str(file))
        by_duckdb = table.pl()
        [(total, seconds)] = table.aggregate("sum(cost), sum(seconds)").fetchall()
    for column in ("shard_id", "cost", "useful_seconds", "started_at", "tags"):
        assert by_duckdb[column].to_list() == by_polars[column].to_list()
    assert total == by_polars["cost"].sum() == sum_of(row.total for row in various())
    assert seconds == 3 * 6 * 3600


def test_standard_tags_are_columns_and_all_of_them_json(file: Path) -> None:
    with duckdb.connect() as database:
        table = database.read_parquet(str(file))
        columns = "project, team, environment, model_id, tags->>'Project', tags"
        [row] = table.project(columns).distinct().fetchall()
    assert row[:5] == ("search", "data", "prod", "m", "search")
    assert json.loads(row[5]) == TAGS


def test_money_and_time_are_decimals() -> None:
    kinds = ("cost", "price_per", "on_demand")
    money = {name for name in COSTS_SCHEMA.names if name.startswith(kinds)}
    money -= {"on_demand_price_source"}
    assert len(money) == 7
    assert {str(COSTS_SCHEMA.field(name).type) for name in money} == {"decimal128(38, 12)"}
    seconds = {str(field.type) for field in COSTS_SCHEMA if field.name.endswith("seconds")}
    assert seconds == {"decimal128(18, 6)"}
    types = {str(field.type) for field in COSTS_SCHEMA}
    assert not types & {"float", "double", "halffloat"}


@bounded
@given(closed_books(any_prices()))
def test_an_unknown_price_is_null_and_never_nothing(closed: Closed) -> None:
    for row in pl.read_parquet(encode_costs(closed.rows())).iter_rows(named=True):
        assert (row["cost"] is None) == (row["price_per_hour"] is None and row["seconds"] > 0)
        unlisted = row["on_demand_price_per_hour"] is None and row["seconds"] > 0
        assert (row["on_demand_equivalent"] is None) == unlisted


class Record(dict[str, int]):
    """Tells when it is gone, which a dict does not."""


def test_few_records_are_held_at_once() -> None:
    held: set[int] = set()
    most = 0

    def records() -> Iterator[Record]:
        nonlocal most
        for number in range(5 * RECORDS_AT_ONCE):
            record = Record(number=number)
            held.add(number)
            weakref.finalize(record, held.discard, number)
            most = max(most, len(held))
            yield record

    body = encode(records(), pa.schema([("number", pa.int64())]), {})
    assert pl.read_parquet(body)["number"].to_list() == list(range(5 * RECORDS_AT_ONCE))
    assert most < 2.5 * RECORDS_AT_ONCE
