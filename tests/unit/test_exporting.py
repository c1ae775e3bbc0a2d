"""When the tables of a run are written, and what happens when they cannot be."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipeline import proving, wiring
from pipeline.accounts import accounts_of
from pipeline.at_hand import JobAtHand, open_job
from pipeline.core import layout
from pipeline.core.money import Buckets, NodePrice, dollars
from pipeline.dataset.plan_file import Plan
from pipeline.documents import dump
from pipeline.exports.costs import encode_costs
from pipeline.exports.writing import write_exports
from pipeline.spot.signals import NoNotice
from pipeline.stores.faults import NO_FAULT, REFUSED, Call, Fault, FaultyStore
from tests.e2e.house import job_file, questions, write
from tests.unit.exported import cost_row

RUN = "night"
BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "360000", on_demand: "980000"}
"""
TABLES = [layout.costs_key(RUN), layout.focus_key(RUN)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobAtHand:
    """A job of three shards on a priced machine, planned and worked on, its books open."""
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "g6.xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "us-east-1a")
    monkeypatch.setenv("SPOTMILL_INSTANCE_ID", "i-1")
    (tmp_path / "prices.yaml").write_text(BOOK)
    write(questions(6), str(tmp_path / "prompts/a.parquet"), row_group_size=2)
    sections: dict[str, Any] = {
        "name": "questions",
        "input": {"uri": "prompts/", "prompt": "question"},
        "output": {"uri": "answers/"},
        "model": {"id": "scripted://?window=8&tokens=5"},
        "shards": {"rows": 2},
        "cost": {"prices": "prices.yaml"},
        "tags": {"Project": "search"},
    }
    made = open_job(str(job_file(tmp_path / "job.yaml", **sections)), RUN)
    wiring.plan(made)
    wiring.run_worker(made, NoNotice(), "w1")
    return made


def close(here: JobAtHand) -> dict[str, Any]:
    return wiring.close_books(here, wiring.planned(here))


def body(here: JobAtHand, key: str) -> bytes:
    found = here.store.get(key)
    assert found is not None
    return found


def refusing(here: JobAtHand, refused: Callable[[Call], bool]) -> JobAtHand:
    def faults(call: Call) -> Fault:
        return REFUSED if refused(call) else NO_FAULT

    return replace(here, store=FaultyStore(here.store, faults))


def export(here: JobAtHand, plan: Plan) -> None:
    shards = [shard.id for shard in plan.shards]
    write_exports(here.ledger, partial(accounts_of, here.ledger, shards))


def test_they_are_written_as_the_books_are_closed(here: JobAtHand) -> None:
    run = close(here)
    costs = pl.read_parquet(body(here, TABLES[0]))
    focus = pl.read_parquet(body(here, TABLES[1]))
    assert costs["cost"].sum() == focus["EffectiveCost"].sum() == Decimal(run["cost"]["total"]) > 0
    assert costs["shard_id"].drop_nulls().to_list() == [0, 1, 2]
    assert set(costs["worker_id"]) == {"w1"}
    assert set(costs["zone"]) == {"us-east-1a"}
    assert costs["project"].unique().to_list() == ["search"]
    assert set(focus["PricingCategory"]) == {"Dynamic"}
    assert focus["ConsumedQuantity"].sum() == run["tokens"]["output"] + run["tokens"]["wasted"]
    session = here.ledger.sessions.of("w1")
    assert session is not None
    [rest] = costs.filter(pl.col("shard_id").is_null()).to_dicts()
    assert rest["boot_seconds"] > 0
    assert rest["started_at"] == datetime.fromisoformat(session.started_at)
    assert proving.verify(here)["problems"] == []


@pytest.mark.parametrize("missing", TABLES)
def test_whoever_finds_one_missing_writes_the_same_again(here: JobAtHand, missing: str) -> None:
    close(here)
    before = {key: body(here, key) for key in TABLES}
    here.store.delete(missing)
    close(here)
    assert {key: body(here, key) for key in TABLES} == before


def test_what_is_there_is_left_alone_and_costs_no_reading(here: JobAtHand) -> None:
    close(here)
    calls: list[Call] = []

    def noted(call: Call) -> bool:
        calls.append(call)
        return False

    export(refusing(here, noted), wiring.planned(here))
    assert [call.verb for call in calls] == ["list", "list"]


def test_closing_reads_no_manifest_and_no_session_twice_and_again_none_at_all(
    here: JobAtHand, tmp_path: Path
) -> None:
    """The books, both tables and the last figures are made from what was read once."""
    metrics = here.job.metrics.model_copy(update={"textfile": str(tmp_path / "prom")})
    told = replace(here, job=here.job.model_copy(update={"metrics": metrics}))
    calls: list[Call] = []

    def noted(call: Call) -> bool:
        calls.append(call)
        return False

    close(refusing(told, noted))
    assert (tmp_path / f"prom/spotmill-{RUN}.prom").exists()
    prefixes = (layout.shard_manifests_prefix(RUN), layout.sessions_prefix(RUN))
    read = [call.key for call in calls if call.verb == "get" and call.key.startswith(prefixes)]
    assert sorted(read) == [
        *(layout.shard_manifest_key(RUN, shard_id) for shard_id in range(3)),
        layout.session_key(RUN, "w1"),
    ]
    calls.clear()
    close(refusing(here, noted))
    assert [call for call in calls if call.key.startswith(prefixes)] == []


@pytest.mark.parametrize(
    "refused",
    [
        lambda call: call.key in TABLES and call.verb == "create",
        lambda call: call.key in TABLES and call.verb == "list",
    ],
    ids=["not written", "not looked for"],
)
def test_a_store_that_takes_no_tables_takes_no_books_away(
    here: JobAtHand, refused: Callable[[Call], bool], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run = close(refusing(here, refused))
    assert run == here.ledger.run_manifest()
    assert "its cost tables are not all written" in caplog.text
    assert [here.store.get(key) for key in TABLES] == [None, None]
    close(here)
    assert pl.read_parquet(body(here, TABLES[0]))["cost"].sum() == Decimal(run["cost"]["total"])


def test_books_that_no_table_can_be_made_of_are_told_and_stay_closed(
    here: JobAtHand, caplog: pytest.LogCaptureFixture
) -> None:
    run = close(here)
    for key in TABLES:
        here.store.delete(key)
    manifest = here.ledger.projected_manifest(1)
    assert manifest is not None
    manifest["attempts"][0]["started_at"] = "yesterday"
    here.store.put(layout.shard_manifest_key(RUN, 1), dump(manifest))
    with caplog.at_level(logging.WARNING):
        assert close(here) == run
    assert "its cost tables are not all written" in caplog.text
    assert here.store.get(TABLES[0]) is None


def test_a_run_that_is_not_finished_has_no_tables(
    here: JobAtHand, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        export(here, wiring.planned(here))
    assert "the run is not finished" in caplog.text
    assert [here.store.get(key) for key in TABLES] == [None, None]


def documented(number: int) -> str:
    """A query of the documentation, in the order that they stand there."""
    text = (Path(__file__).parents[2] / "docs/exports.md").read_text()
    queries: list[str] = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) == 6
    return queries[number]


def asked(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        return database.sql(query).fetchall()


def test_what_the_documentation_asks_of_a_run_is_what_its_books_say(
    here: JobAtHand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = close(here)
    monkeypatch.chdir(tmp_path / f"answers/runs/{RUN}")
    total, tokens = Decimal(run["cost"]["total"]), run["tokens"]
    assert asked(documented(0)) == [(total, Decimal(run["cost"]["uncertain"]))]
    lost = sum(Decimal(manifest["cost"]["wasted"]) for manifest in manifests(here))
    [by_zone] = asked(documented(1))
    assert by_zone[:4] == ("search", "us-east-1a", "spot", total)
    assert by_zone[4] >= lost
    assert by_zone[5] == tokens["output"] > 0
    assert asked(documented(2)) == [(0, total)]
    [(project, saved, unknown, unknown_usd)] = asked(documented(3))
    micros = sum(Buckets.from_seconds(worker["seconds"]).total for worker in run["workers"])
    assert (project, unknown, unknown_usd) == ("search", 0, 0)
    assert saved == pytest.approx(dollars(micros, Decimal(980_000 - 360_000)), abs=Decimal("1e-9"))
    by_bucket = {bucket: (usd, count) for _, bucket, usd, count in asked(documented(4))}
    assert by_bucket["useful"][1] == tokens["output"]
    assert sum(usd for usd, _ in by_bucket.values()) == total
    assert asked(documented(5)) == [("i-1", 0, total)]


def test_savings_are_those_of_rows_that_have_an_on_demand_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that has none would count its cost, and nothing that was saved by it."""
    unlisted = cost_row(price=NodePrice(Decimal(1), "a market", None))
    unpriced = cost_row(price=NodePrice(None, "unknown"), useful=None, wasted=None, overhead=None)
    (tmp_path / "costs.parquet").write_bytes(encode_costs([cost_row(), unlisted, unpriced]))
    monkeypatch.chdir(tmp_path)
    assert asked(documented(3)) == [("search", Decimal(18 - 6), 2, Decimal(6))]


def manifests(here: JobAtHand) -> list[dict[str, Any]]:
    return here.ledger.shard_manifests(range(3))
