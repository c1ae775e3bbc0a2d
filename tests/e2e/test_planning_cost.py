"""`spotmill plan` and `run` by whoever pays: a limit before, and what it came to after."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.core import layout
from pipeline.stores import StoreOptions, open_store
from tests.e2e.house import job_file, questions, scripted, spotmill, write

NODE = {"SPOTMILL_INSTANCE_TYPE": "g6.xlarge", "SPOTMILL_INSTANCE_LIFECYCLE": "spot"}
BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "0.36", on_demand: "0.98"}
"""


@pytest.fixture
def job(tmp_path: Path) -> str:
    write(questions(120), str(tmp_path / "prompts" / "a.parquet"), 40)
    (tmp_path / "prices.yaml").write_text(BOOK)
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model=scripted(window=8, tokens=30, step_seconds=0.01),
        shards={"rows": 40},
        fleet={"workers": 1, "lease_seconds": 5},
        cost={"prices": "prices.yaml"},
    )
    return str(path)


def test_a_job_is_planned_limited_run_and_compared(job: str) -> None:
    unknown = spotmill("plan", job, "--max-usd", "5", environment=NODE)
    assert unknown.code == 4
    assert "nobody can tell" in unknown.stderr
    sampled = spotmill("plan", job, "--sample", "40", "--json", environment=NODE)
    assert sampled.code == 0, sampled.stderr
    assert sampled.document["shards"] == 3
    assert Decimal(sampled.document["usd"]["p50"]) > 0

    for run in ("one", "two"):
        command = ("run", job, "--run-id", run, "--no-prefect", "--json")
        said = spotmill(*command, environment=NODE)
        assert said.code == 0, said.stderr
        assert ("prediction" in said.document) == (run == "two")
    told = said.document["prediction"]
    assert told["output_tokens"]["error"] == 0.0
    assert told["worker_hours"]["actual"] > 0
    store = open_store(str(Path(job).parent / "answers"), StoreOptions())
    kept = json.loads(store.get(layout.prediction_key("two")) or b"")
    assert float(kept["usd"]["p50"]) == told["usd"]["p50"]
    books = json.loads(store.get(layout.run_manifest_key("two")) or b"")
    assert "prediction" not in books

    planned = spotmill("plan", job, "--json", environment=NODE)
    high = Decimal(planned.document["usd"]["p90"])
    assert spotmill("plan", job, "--max-usd", str(high * 2), environment=NODE).code == 0
    refused = spotmill("plan", job, "--max-usd", str(high / 2), "--json", environment=NODE)
    assert refused.code == 4
    assert "p90" in refused.stderr
    assert refused.document["usd"]["p90"] == planned.document["usd"]["p90"]


def test_a_first_run_is_compared_with_what_was_planned(job: str) -> None:
    named = (job, "--run-id", "first", "--json")
    planned = spotmill("plan", *named, "--sample", "40", "--keep", environment=NODE)
    assert planned.code == 0, planned.stderr
    ran = spotmill("run", *named, "--no-prefect", environment=NODE)
    told = ran.document["prediction"]
    assert told["usd"]["p50"] == float(planned.document["usd"]["p50"])
    assert abs(told["worker_hours"]["error"]) < 0.9
    assert "what was expected of this run and what it came to" in ran.stderr
    again = spotmill("plan", *named, "--keep", environment=NODE)
    assert (again.code, "has begun" in again.stderr) == (2, True)


def test_an_amount_that_is_none_is_bad_usage(job: str) -> None:
    for amount in ("much", "nan", "-1"):
        assert spotmill("plan", job, "--max-usd", amount).code == 2
