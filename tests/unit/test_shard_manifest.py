"""The document that says what a shard cost: exactly the fields of the design, and right."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.checkpoint import Attempt
from pipeline.core.manifest import charged_usd, shard_manifest
from pipeline.core.money import Buckets, NodePrice
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.spans import charges
from tests.unit.books import PROVENANCE, attempt_of, manifest_of, shard_of
from tests.unit.strategies import attempts, bounded, finished_rows

ROWS = (
    FinishedRow(0, "a b", "stop", None, prompt_tokens=5, completion_tokens=2, cached_tokens=4),
    FinishedRow(1, error="the prompt is empty"),
    FinishedRow(2, "c d e", "length", None, prompt_tokens=6, completion_tokens=3, cached_tokens=0),
)
PRICE = NodePrice(Decimal("3.6"), "a book", Decimal("7.2"))
FIRST = attempt_of("w1", 1, PRICE, Buckets(useful=4_000_000, wasted=500_000), TokenCounts(output=4))
SECOND = attempt_of("w2", 2, PRICE, Buckets(useful=1_000_000, idle=500_000), TokenCounts(output=3))

FIELDS = {
    "schema_version": None,
    "run_id": None,
    "shard_id": None,
    "job_fingerprint": None,
    "input": {"uri", "etag", "row_groups", "rows"},
    "output": {"uri", "rows", "rows_ok", "rows_error", "finish_reasons"},
    "model": None,
    "tokens": {"input", "cached_input", "output", "draft_proposed", "draft_accepted", "wasted"},
    "attempts": None,
    "quarantined": None,  # beyond the design: the evidence against rows that killed the engine
    "cost": {
        "currency",
        "total",
        "useful",
        "wasted",
        "overhead",
        "per_1k_output_tokens",
        "per_1m_tokens",
        "on_demand_equivalent",
        "savings",
    },
    "tags": None,
}
ATTEMPT_FIELDS = {
    "worker_id",
    "epoch",
    "node",
    "started_at",
    "ended_at",
    "seconds",
    "price_per_hour",
    "price_source",
    "rows",
    "tokens",
    "end",
}


def test_it_has_the_fields_of_the_design() -> None:
    manifest = manifest_of(shard_of(4, 3), ROWS, [FIRST, SECOND])
    assert set(manifest) == set(FIELDS)
    for section, fields in FIELDS.items():
        if fields is not None:
            assert set(manifest[section]) >= fields, section
    for attempt in manifest["attempts"]:
        assert set(attempt) >= ATTEMPT_FIELDS
        assert set(attempt["node"]) == {"instance_id", "instance_type", "zone", "lifecycle"}
        assert set(attempt["seconds"]) == {"boot", "load", "useful", "wasted", "idle", "drain"}


def test_it_counts_rows_and_tokens() -> None:
    manifest = manifest_of(shard_of(4, 3), ROWS, [FIRST, SECOND])
    assert manifest["shard_id"] == 4
    assert manifest["output"] == {
        "uri": "out/part-4",
        "rows": 3,
        "rows_ok": 2,
        "rows_error": 1,
        "finish_reasons": {"error": 1, "length": 1, "stop": 1},
    }
    tokens = manifest["tokens"]
    assert (tokens["input"], tokens["cached_input"], tokens["output"]) == (11, 4, 5)
    # Seven were decoded and five are in the rows.
    assert tokens["wasted"] == 2


def test_it_adds_up_its_cost() -> None:
    cost = manifest_of(shard_of(4, 3), ROWS, [FIRST, SECOND])["cost"]
    assert cost["currency"] == "USD"
    assert Decimal(cost["useful"]) == Decimal("0.005")
    assert Decimal(cost["wasted"]) == Decimal("0.0005")
    assert Decimal(cost["overhead"]) == Decimal("0.0005")
    assert Decimal(cost["total"]) == Decimal("0.006")
    assert Decimal(cost["per_1k_output_tokens"]) == Decimal("1.2")
    # Of 5 and 6 tokens put in, and 2 and 3 that came out.
    assert Decimal(cost["per_1m_tokens"]) == Decimal("375")
    assert Decimal(cost["on_demand_equivalent"]) == Decimal("0.012")
    assert Decimal(cost["savings"]) == Decimal("0.006")


def test_an_unknown_price_is_null_and_not_zero() -> None:
    spent = Buckets(useful=1, wasted=1, idle=1)
    unknown = attempt_of("w3", 3, NodePrice(None, "unknown"), spent)
    cost = manifest_of(shard_of(4, 3), ROWS, [FIRST, unknown])["cost"]
    assert {value for key, value in cost.items() if key != "currency"} == {None}


def test_what_took_no_time_at_an_unknown_price_is_known() -> None:
    unknown = attempt_of("w3", 3, NodePrice(None, "unknown"), Buckets(useful=1))
    known = manifest_of(shard_of(4, 3), ROWS, [FIRST])["cost"]
    cost = manifest_of(shard_of(4, 3), ROWS, [FIRST, unknown])["cost"]
    assert cost["total"] is cost["useful"] is None
    assert (cost["wasted"], cost["overhead"]) == (known["wasted"], known["overhead"])


def test_an_unknown_on_demand_price_makes_the_savings_unknown_alone() -> None:
    spot_only = attempt_of("w3", 1, NodePrice(Decimal(1), "a book"), Buckets(useful=1_000_000))
    cost = manifest_of(shard_of(4, 3), ROWS, [spot_only])["cost"]
    assert cost["on_demand_equivalent"] is None
    assert cost["savings"] is None
    assert cost["total"] is not None


def test_no_output_token_has_no_price_by_token() -> None:
    rows = [FinishedRow(0, error="bad")]
    cost = manifest_of(shard_of(4, 1), rows, [FIRST])["cost"]
    assert cost["per_1k_output_tokens"] is None
    assert cost["per_1m_tokens"] is None
    assert cost["total"] is not None
    read = [FinishedRow(0, error="no answer fits", prompt_tokens=3)]
    cost = manifest_of(shard_of(4, 1), read, [FIRST])["cost"]
    assert cost["per_1k_output_tokens"] is None
    assert Decimal(cost["per_1m_tokens"]) == Decimal(cost["total"]) * 1_000_000 / 3


@bounded
@given(st.lists(attempts(), max_size=3), st.lists(finished_rows(), min_size=1, max_size=3))
def test_it_is_plain_json_and_its_attempts_sum_to_its_total(
    worked: list[Attempt], rows: list[FinishedRow]
) -> None:
    manifest = shard_manifest(PROVENANCE, shard_of(0, len(rows)), "out", rows, worked)
    again = json.loads(json.dumps(manifest))
    assert again == manifest
    charged = [charged_usd(charges(attempt)) for attempt in again["attempts"]]
    if None in charged:
        assert again["cost"]["total"] is None
    else:
        total = sum((usd for usd in charged if usd is not None), Decimal(0))
        assert Decimal(again["cost"]["total"]) == total
    assert [Attempt.from_json(entry) for entry in again["attempts"]] == worked
