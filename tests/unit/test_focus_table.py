"""`focus.parquet`: what FOCUS 1.2 asks of every column, and what its readers see."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import Buckets, Node, NodePrice, dollars, sum_of
from pipeline.core.rows import TokenCounts
from pipeline.exports.cost_rows import CostRow
from pipeline.exports.focus import encode_focus
from pipeline.exports.focus_schema import FOCUS_SCHEMA
from tests.unit.exported import (
    AZURE_VM,
    HOUR,
    TAGS,
    Closed,
    closed_books,
    cost_row,
    tokens_of,
)
from tests.unit.strategies import any_prices, bounded

# The mandatory columns of the dataset Cost and Usage, and what may be null in them.
MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType"),
    *("BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass"),
    *("ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost"),
    *("EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}
NULL_ALLOWED = {"ChargeClass"}
# What each of these may hold, of the values that the specification allows.
ONE_VALUE = {
    "BillingCurrency": "USD",
    "ChargeCategory": "Usage",
    "ChargeFrequency": "Usage-Based",
    "ConsumedUnit": "Tokens",
    "PricingUnit": "Hours",
    "ServiceCategory": "AI and Machine Learning",
    "ServiceSubcategory": "Generative AI",
    "ChargeClass": None,
    "InvoiceId": None,
}
# All that the specification allows in the columns that it enumerates; null where it may be.
ALLOWED: dict[str | tuple[str, ...], set[Any]] = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {None, "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "CommitmentDiscountStatus": {None, "Used", "Unused"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    ("ServiceCategory", "ServiceSubcategory"): {
        ("AI and Machine Learning", "AI Platforms"),
        ("AI and Machine Learning", "Bots"),
        ("AI and Machine Learning", "Generative AI"),
        ("AI and Machine Learning", "Machine Learning"),
        ("AI and Machine Learning", "Natural Language Processing"),
        ("AI and Machine Learning", "Other (AI and Machine Learning)"),
    },
}


# All that FOCUS 1.2 defines; any other has to begin with x_.
PRICE_PROPERTIES = {
    *("CoreCount", "DiskMaxIops", "DiskSpace", "DiskType", "GpuCount", "InstanceSeries"),
    *("InstanceType", "MemorySize", "NetworkMaxIops", "NetworkMaxThroughput"),
    *("OperatingSystem", "Redundancy", "StorageClass"),
}


def records(rows: list[CostRow]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pl.read_parquet(encode_focus(rows)).to_dicts()
    return found


@bounded
@given(closed_books())
def test_effective_costs_add_up_to_the_run_and_nothing_is_billed(closed: Closed) -> None:
    found = records(closed.rows())
    total = sum((record["EffectiveCost"] for record in found), Decimal(0))
    assert total == Decimal(closed.run["cost"]["total"])
    assert all(record["BilledCost"] == 0 for record in found)


@bounded
@given(closed_books())
def test_hours_and_tokens_add_up_too(closed: Closed) -> None:
    rows = closed.rows()
    found = records(rows)
    tokens = tokens_of(rows)
    consumed = sum((record["ConsumedQuantity"] for record in found), Decimal(0))
    assert consumed == tokens.output + tokens.wasted
    micros = sum(row.buckets.total for row in rows)
    quantity = sum((record["PricingQuantity"] for record in found), Decimal(0))
    assert round(quantity * HOUR) == micros


@bounded
@given(closed_books())
def test_unit_prices_times_quantities_are_the_costs(closed: Closed) -> None:
    for record in records(closed.rows()):
        hours = record["PricingQuantity"]
        for kind in ("Contracted", "List"):
            product = record[f"{kind}UnitPrice"] * hours
            assert abs(product - record[f"{kind}Cost"]) < Decimal("1e-8")
        assert abs(record["EffectiveCost"] - record["ContractedCost"]) < Decimal("1e-10")


@bounded
@given(closed_books(any_prices()))
def test_columns_have_their_types_and_nulls_only_where_they_may(closed: Closed) -> None:
    body = encode_focus(closed.rows())
    assert body == encode_focus(closed.rows())
    table = pq.read_table(io.BytesIO(body))
    assert table.schema.equals(FOCUS_SCHEMA)
    for record in table.to_pylist():
        empty = {name for name in MANDATORY if record[name] is None} - NULL_ALLOWED
        assert empty <= {"EffectiveCost", "ContractedCost", "ListCost"}
        took_time = record["PricingQuantity"] > 0
        assert bool(empty) == (record["ContractedUnitPrice"] is None and took_time)
    for name, value in ONE_VALUE.items():
        assert set(table[name].to_pylist()) <= {value}


@bounded
@given(closed_books(any_prices()))
def test_enumerations_hold_what_they_allow(closed: Closed) -> None:
    for record in records(closed.rows()):
        for column, allowed in ALLOWED.items():
            told = record[column] if isinstance(column, str) else tuple(map(record.get, column))
            assert told in allowed, column


def test_every_mandatory_column_is_there_and_own_ones_are_marked() -> None:
    assert set(FOCUS_SCHEMA.names) >= MANDATORY
    own = [name for name in FOCUS_SCHEMA.names if name.startswith("x_")]
    assert FOCUS_SCHEMA.names == sorted(set(FOCUS_SCHEMA.names) - set(own)) + sorted(own)
    assert {"x_SpotmillRunId", "x_ShardId", "x_WorkerId", "x_Bucket"} <= set(own)


def test_startup_idle_and_waste_are_rows_of_their_own() -> None:
    found = {record["x_Bucket"]: record for record in records([cost_row()])}
    costs = {bucket: record["EffectiveCost"] for bucket, record in found.items()}
    assert costs == {"useful": 1, "wasted": 1, "startup": 2, "idle": 2}
    tokens = {bucket: record["ConsumedQuantity"] for bucket, record in found.items()}
    assert tokens == {"useful": 50, "wasted": 9, "startup": 0, "idle": 0}
    hours = {bucket: record["PricingQuantity"] for bucket, record in found.items()}
    assert hours == {"useful": 1, "wasted": 1, "startup": 2, "idle": 2}
    assert found["useful"]["x_InputTokens"] == 7
    assert found["useful"]["x_Rows"] == 4
    assert found["idle"]["x_Rows"] is None
    assert found["wasted"]["ListCost"] == 3
    assert found["wasted"]["x_ShardId"] == 12


def test_what_took_no_time_is_no_row() -> None:
    quick = cost_row(buckets=Buckets(useful=HOUR), wasted=Decimal(0), overhead=Decimal(0))
    by_bucket = Counter(record["x_Bucket"] for record in records([quick]))
    assert by_bucket == {"useful": 1, "wasted": 1}, "wasted tokens are told in any case"
    nothing = cost_row(
        buckets=Buckets(),
        tokens=TokenCounts(),
        rows=0,
        **dict.fromkeys(("useful", "wasted", "overhead"), Decimal(0)),
    )
    assert records([nothing]) == []


def test_rows_and_prompts_are_told_even_where_nothing_was_decoded() -> None:
    nothing = dict.fromkeys(("useful", "wasted"), Decimal(0))
    answered = TokenCounts(input=70, cached_input=3)
    charge = cost_row(buckets=Buckets(idle=HOUR), overhead=Decimal(1), tokens=answered, **nothing)
    found = {record["x_Bucket"]: record for record in records([charge])}
    assert list(found) == ["useful", "idle"]
    useful = found["useful"]
    assert (useful["x_Rows"], useful["x_InputTokens"], useful["x_CachedInputTokens"]) == (4, 70, 3)
    assert useful["EffectiveCost"] == useful["PricingQuantity"] == useful["ConsumedQuantity"] == 0


def test_what_rounding_leaves_is_told_even_without_time() -> None:
    least = Decimal("0.000000000001")
    rest = cost_row(
        buckets=Buckets(), useful=Decimal(0), wasted=Decimal(0), overhead=-least, shard_id=None
    )
    costs = {record["x_Bucket"]: record["EffectiveCost"] for record in records([rest])}
    assert costs["idle"] == -least
    assert sum_of(costs.values()) == -least


@pytest.mark.parametrize(
    ("lifecycle", "category"),
    [("spot", "Dynamic"), ("on-demand", "Standard"), ("unknown", "Other"), ("reserved", "Other")],
)
def test_each_pricing_category(lifecycle: str, category: str) -> None:
    found = records([cost_row(node=Node("i-1", "g6.xlarge", "us-east-1a", lifecycle))])
    assert {record["PricingCategory"] for record in found} == {category}


@pytest.mark.parametrize(
    ("node", "issuer", "region", "zone"),
    [
        (Node("i-1", zone="us-east-1a"), "Amazon Web Services", "us-east-1", "us-east-1a"),
        (Node("4521", zone="us-central1-a"), "Google Cloud", "us-central1", "us-central1-a"),
        (Node("4521", zone="us-central1-ai1a"), "Google Cloud", "us-central1", "us-central1-ai1a"),
        (Node(AZURE_VM, zone="eastus2-1"), "Microsoft Azure", "eastus2", "eastus2-1"),
        (Node(AZURE_VM, zone="eastus2"), "Microsoft Azure", "eastus2", None),
        (Node("box-7", zone="cellar"), "unknown", None, "cellar"),
        (Node("host:box-7"), "unknown", None, None),
    ],
)
def test_a_nodes_zone_tells_whose_it_is(
    node: Node, issuer: str, region: str | None, zone: str | None
) -> None:
    [record, *_] = records([cost_row(node=node)])
    assert record["InvoiceIssuerName"] == issuer
    assert (record["RegionId"], record["RegionName"]) == (region, region)
    assert record["AvailabilityZone"] == zone
    assert record["InvoiceIssuerName"] != record["ProviderName"], "BilledCost is 0 for that reason"


@pytest.mark.parametrize(
    ("instance_id", "resource"),
    [("i-1", "i-1"), (AZURE_VM, AZURE_VM), ("host:box-7", None), ("unknown", None)],
)
def test_only_what_a_bill_knows_is_a_resource(instance_id: str, resource: str | None) -> None:
    [record, *_] = records([cost_row(node=Node(instance_id, "g6.xlarge"))])
    assert record["ResourceId"] == resource
    assert record["ResourceType"] == (resource and "Virtual Machine")


def test_every_property_of_a_price_is_one_that_focus_defines_or_marked_as_ours() -> None:
    node = Node("i-1", "g6.xlarge", "us-east-1a", "spot")
    for record in records([cost_row(node=node)]):
        details = json.loads(record["SkuPriceDetails"])
        assert details["InstanceType"] == "g6.xlarge"
        assert all(key in PRICE_PROPERTIES or key.startswith("x_") for key in details)


def test_a_machine_that_nobody_knows_is_null_or_unknown() -> None:
    [record, *_] = records([cost_row(node=Node())])
    for name in ("AvailabilityZone", "ResourceId", "ResourceType", "SkuPriceDetails", "RegionId"):
        assert record[name] is None
    assert (record["SkuId"], record["SkuPriceId"]) == ("unknown", "unknown/unknown/unknown")


def test_an_unknown_price_is_null_and_never_nothing() -> None:
    unknown = NodePrice(None, "unknown", Decimal(3))
    [record, *_] = records([cost_row(price=unknown, useful=None, wasted=None, overhead=None)])
    for name in ("EffectiveCost", "ContractedCost", "ContractedUnitPrice"):
        assert record[name] is None
    assert (record["ListCost"], record["ListUnitPrice"]) == (3, 3)
    assert record["x_PriceSource"] == "unknown"
    assert record["x_OnDemandPriceSource"] == "unknown"


def test_without_an_on_demand_price_the_list_is_the_nodes_own() -> None:
    [record, *_] = records([cost_row(price=NodePrice(Decimal(1), "a book"))])
    assert (record["ListUnitPrice"], record["x_OnDemandEquivalent"]) == (1, None)


@pytest.mark.parametrize(
    ("started", "first", "after"),
    [
        (datetime(2026, 12, 30, 22, tzinfo=UTC), "2026-12-01", "2027-01-01"),
        (datetime(2028, 2, 29, tzinfo=UTC), "2028-02-01", "2028-03-01"),
        (datetime(2026, 11, 1, tzinfo=UTC), "2026-11-01", "2026-12-01"),
    ],
)
def test_billing_periods_are_calendar_months(started: datetime, first: str, after: str) -> None:
    charge = cost_row(started_at=started, ended_at=started + timedelta(hours=1))
    [record, *_] = records([charge])
    assert record["BillingPeriodStart"] == datetime.fromisoformat(f"{first}T00:00:00Z")
    assert record["BillingPeriodEnd"] == datetime.fromisoformat(f"{after}T00:00:00Z")


def test_a_charge_over_a_months_end_is_cut_there_in_proportion_to_its_time() -> None:
    """Two of its six hours are December's."""
    started, ended = datetime(2026, 12, 31, 22, tzinfo=UTC), datetime(2027, 1, 1, 4, tzinfo=UTC)
    charge = cost_row(started_at=started, ended_at=ended, useful=Decimal("1.000000000001"), rows=5)
    useful = [r for r in records([charge]) if r["x_Bucket"] == "useful"]
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    periods = [(r["ChargePeriodStart"], r["ChargePeriodEnd"]) for r in useful]
    assert periods == [(started, new_year), (new_year, ended)]
    assert [r["BillingPeriodStart"].month for r in useful] == [12, 1]
    assert [r["EffectiveCost"] for r in useful] == [
        Decimal("0.333333333334"),
        Decimal("0.666666666667"),
    ]
    assert [r["ConsumedQuantity"] for r in useful] == [17, 33]
    assert [r["x_Rows"] for r in useful] == [2, 3]
    assert [r["x_InputTokens"] for r in useful] == [2, 5]


@bounded
@given(
    closed_books(any_prices()),
    st.datetimes(datetime(2026, 11, 1), datetime(2026, 12, 31)),
    st.timedeltas(timedelta(0), timedelta(days=70)),
)
def test_every_charge_lies_within_its_billing_period_and_nothing_is_lost_by_that(
    closed: Closed, start: datetime, lasting: timedelta
) -> None:
    began = start.replace(tzinfo=UTC)
    rows = [replace(row, started_at=began, ended_at=began + lasting) for row in closed.rows()]
    found, tokens = records(rows), tokens_of(rows)
    for record in found:
        assert record["BillingPeriodStart"] <= record["ChargePeriodStart"]
        assert record["ChargePeriodStart"] <= record["ChargePeriodEnd"]
        assert record["ChargePeriodEnd"] <= record["BillingPeriodEnd"]
    assert sum_of(r["EffectiveCost"] for r in found) == sum_of(row.total for row in rows)
    micros = [round(record["PricingQuantity"] * HOUR) for record in found]
    assert sum(micros) == sum(row.buckets.total for row in rows)
    assert sum(r["ConsumedQuantity"] for r in found) == tokens.output + tokens.wasted
    assert sum(r["x_InputTokens"] or 0 for r in found) == tokens.input
    assert sum(r["x_Rows"] or 0 for r in found) == sum(row.rows for row in rows)


def test_duckdb_and_polars_read_it(tmp_path: Path) -> None:
    file = tmp_path / "focus.parquet"
    file.write_bytes(encode_focus([cost_row(), cost_row(shard_id=None, epoch=None, end=None)]))
    with duckdb.connect() as database:
        rows = database.read_parquet(str(file))
        projects = rows.project("Tags->>'Project'").distinct().fetchall()
        by_bucket = database.execute(
            "SELECT x_Bucket, sum(EffectiveCost) FROM read_parquet(?) GROUP BY ALL ORDER BY ALL",
            [str(file)],
        ).fetchall()
    assert projects == [("search",)]
    assert by_bucket == [("idle", 4), ("startup", 4), ("useful", 2), ("wasted", 2)]
    table = pl.read_parquet(file)
    by_polars = table["Tags"].str.json_path_match("$.Project")
    assert by_polars.unique().to_list() == ["search"]
    assert json.loads(table["Tags"][0]) == TAGS
    assert table["EffectiveCost"].sum() == 12


def test_the_version_it_follows_is_in_the_file() -> None:
    metadata = pq.read_metadata(io.BytesIO(encode_focus([]))).metadata
    assert metadata[b"FocusVersion"] == b"1.2"


@bounded
@given(closed_books())
def test_contracted_costs_are_exactly_what_the_time_cost(closed: Closed) -> None:
    for record in records(closed.rows()):
        micros = round(record["PricingQuantity"] * HOUR)
        assert record["ContractedCost"] == dollars(micros, record["ContractedUnitPrice"])
        assert record["ListCost"] == dollars(micros, record["ListUnitPrice"])
