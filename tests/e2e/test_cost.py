"""`spotmill cost` as its users see it: of runs that were killed, go on, and are complete."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pyarrow.compute as pc
import pytest

from pipeline import costing, wiring
from pipeline.at_hand import open_job
from pipeline.core.cost_report import By
from pipeline.stores.faults import NO_FAULT, Call, Fault, FaultyStore
from tests.e2e.house import (
    Said,
    job_file,
    published,
    questions,
    scripted,
    spotmill,
    started,
    until,
    write,
)

WAYS: tuple[By, ...] = get_args(By)
MONDAY, TUESDAY = "questions-monday", "questions-tuesday"
SPOT = {
    "SPOTMILL_INSTANCE_TYPE": "g6.xlarge",
    "SPOTMILL_INSTANCE_LIFECYCLE": "spot",
    "SPOTMILL_INSTANCE_ZONE": "us-east-1a",
}
BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "360", on_demand: "720"}
"""


def job(place: Path, **sections: Any) -> str:
    write(questions(120), str(place / "prompts" / "a.parquet"))
    (place / "prices.yaml").write_text(BOOK)
    path = job_file(
        place / "job.yaml",
        **{
            "name": "questions",
            "input": {"uri": "prompts/", "prompt": "question"},
            "output": {"uri": "answers/"},
            "model": scripted(window=4, tokens=30, step_seconds=0.01),
            "shards": {"rows": 40},
            "chunks": {"rows": 5, "seconds": 0.5},
            "fleet": {"workers": 1, "lease_seconds": 2},
            "cost": {"prices": "prices.yaml"},
            "tags": {"Team": "data"},
            **sections,
        },
    )
    return str(path)


def cost(path: str, *options: str) -> dict[str, Any]:
    said = spotmill("cost", path, *options, "--json")
    assert said.code == 0, said.stderr
    return said.document


def ran(path: str, run_id: str, command: str = "run", machine: str | None = None) -> Said:
    on = SPOT if machine is None else {**SPOT, "SPOTMILL_INSTANCE_TYPE": machine}
    said = spotmill(command, path, "--run-id", run_id, "--no-prefect", "--json", environment=on)
    assert said.code == 0, said.stderr
    return said


def rows_sum(report: dict[str, Any]) -> Decimal:
    return sum((Decimal(row["cost"]["total"]) for row in report["rows"]), Decimal(0))


def tokens_published(place: Path, run_id: str) -> int:
    found: int = pc.sum(published(str(place / "answers"), run_id)["completion_tokens"]).as_py()
    return found


def test_the_cost_of_a_run_that_was_killed_and_went_on(tmp_path: Path) -> None:
    path = job(tmp_path)
    command = (sys.executable, "-m", "pipeline.cli", "run", path, "--run-id", "one", "--no-prefect")
    parts = tmp_path / "answers/data/run=one"
    points = tmp_path / "answers/runs/one/checkpoints"
    with started(*command, log=tmp_path / "log", **SPOT) as run:
        until(lambda: any(parts.glob("*.parquet")), 60, "a published shard")
        until(lambda: len(list(points.iterdir())) > 1, 60, "a checkpoint of the next")
        [worker] = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.kill()
        os.kill(int(worker), signal.SIGKILL)

    so_far = cost(path, "--run-id", "one", "--by", "shard")
    assert not so_far["complete"]
    assert Decimal(so_far["total"]) > Decimal(so_far["allocated"]) > 0
    assert rows_sum(so_far) == Decimal(so_far["total"])
    assert so_far["tokens"]["output"] == tokens_published(tmp_path, "one")
    assert so_far["seconds"]["wasted"] == 0, "what is not published may be of use yet"
    assert so_far["tokens"]["wasted"] == 0
    assert so_far["rows"][-1]["shard"] is None

    ended = ran(path, "one", "resume").document
    report = cost(path, "--run-id", "one", "--by", "zone")
    assert [row["zone"] for row in report["rows"]] == ["us-east-1a"]
    for by in WAYS:
        report = costing.cost(open_job(path, "one"), by)
        assert report["complete"]
        assert report["total"] == ended["cost"]["total"]
        assert rows_sum(report) == Decimal(ended["cost"]["total"]), by
    [first, second] = report["workers"]
    assert {worker["state"] for worker in (first, second)} == {"work", "ended"}
    preemption = report["preemption"]
    assert (preemption["workers"], preemption["replacements"]) == (1, 1)
    assert Decimal(preemption["replacement_boot"]) > 0
    assert 0 < Decimal(preemption["percent"]) < 100
    assert Decimal(report["on_demand"]["equivalent"]) == 2 * Decimal(report["total"])
    assert report["on_demand"]["percent"] == "50.00"


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """And before them one of another job, and one that was planned and never ended."""
    place = tmp_path_factory.mktemp("two")
    quick = scripted(window=16, tokens=5)
    path = job(place, model=quick)
    other = place / "other.yaml"
    other.write_text(Path(path).read_text().replace("name: questions", "name: questions-2"))
    ran(str(other), "questions-2-night")
    wiring.plan(open_job(path, "questions-open"))
    ran(path, MONDAY)
    ran(path, TUESDAY)
    return path


def test_a_run_is_compared_with_those_before_it(two_runs: str) -> None:
    first = cost(two_runs, "--run-id", MONDAY)
    second = cost(two_runs, "--run-id", TUESDAY)
    assert first["earlier"]["runs"] == []
    [monday] = second["earlier"]["runs"]
    assert monday["run_id"] == MONDAY
    assert monday["per_1k_output_tokens"] == first["per_1k_output_tokens"]
    then, now = (Decimal(run["per_1k_output_tokens"]) for run in (first, second))
    change = Decimal(monday["change_percent"]["per_1k_output_tokens"])
    assert abs(change - (now - then) * 100 / then) <= Decimal("0.005")
    assert monday["change_percent"]["output_tokens"] == "0.00"
    assert cost(two_runs, "--run-id", TUESDAY, "--compare", "0")["earlier"]["runs"] == []


def test_earlier_runs_are_compared_with_by_three_objects_each(two_runs: str) -> None:
    calls: list[Call] = []

    def noted(call: Call) -> Fault:
        calls.append(call)
        return NO_FAULT

    here = open_job(two_runs, TUESDAY)
    seen = costing.cost(replace(here, store=FaultyStore(here.store, noted)))["earlier"]
    of_monday = [call.key for call in calls if MONDAY in call.key and call.verb == "get"]
    assert of_monday == [
        f"runs/{MONDAY}/{name}" for name in ("job.json", "manifest.json", "costs.parquet")
    ]
    monday = costing.cost(open_job(two_runs, MONDAY), earlier=0)
    [then] = seen["runs"]
    assert then["preemption_percent"] == monday["preemption"]["percent"]
    assert then["savings_percent"] == monday["on_demand"]["percent"]

    table = f"runs/{MONDAY}/costs.parquet"
    here.store.delete(table)
    [then] = costing.cost(here)["earlier"]["runs"]
    assert then["preemption_percent"] is None, "no table tells it"
    assert then["per_1k_output_tokens"] == monday["per_1k_output_tokens"]
    wiring.close_books(open_job(two_runs, MONDAY), wiring.planned(open_job(two_runs, MONDAY)))
    assert costing.cost(here)["earlier"]["runs"] == seen["runs"]


def test_people_see_tables(two_runs: str) -> None:
    said = spotmill("cost", two_runs, "--run-id", TUESDAY, "--by", "tag", "--tag", "Team")
    assert said.code == 0, said.stderr
    for line in (
        "cost of questions-tuesday in USD",
        "price of preemption",
        "by tag",
        "Team data",
        MONDAY,
    ):
        assert line in said.stdout, said.stdout
    assert "openai/gpt-5-mini" in said.stdout
    assert "…" not in said.stdout, "a figure is cut"


def test_a_hosted_model_is_compared_with_where_asked_for(two_runs: str) -> None:
    report = cost(two_runs, "--run-id", TUESDAY, "--compare-api", "openai/o3")
    [o3] = report["hosted"]["models"]
    given, answered = report["tokens"]["input"], report["tokens"]["output"]
    rates = Decimal(o3["input_per_1m"]), Decimal(o3["output_per_1m"])
    assert Decimal(o3["total"]) == (rates[0] * given + rates[1] * answered) / 1_000_000
    refused = spotmill("cost", two_runs, "--run-id", TUESDAY, "--compare-api", "openai/nothing")
    assert refused.code == 2
    assert "nobody has a price of" in refused.stderr


def test_a_tag_without_by_tag_is_refused(two_runs: str) -> None:
    said = spotmill("cost", two_runs, "--run-id", TUESDAY, "--tag", "Team")
    assert said.code == 2
    assert "--by tag" in said.stderr


def test_an_unknown_price_is_unknown_and_says_so(tmp_path: Path) -> None:
    path = job(tmp_path, model=scripted(window=16, tokens=5), cost={"live_prices": False})
    ran(path, "night", machine="desk.large")
    report = cost(path, "--run-id", "night", "--by", "zone")
    assert report["total"] is report["preemption"]["percent"] is None
    assert report["on_demand"] == {"equivalent": None, "savings": None, "percent": None}
    [row] = report["rows"]
    assert row["cost"]["total"] is None
    assert row["tokens"]["output"] == tokens_published(tmp_path, "night")
    assert "unknown" in spotmill("cost", path, "--run-id", "night").stdout


def test_a_run_that_nobody_works_on_has_cost_nothing_yet(two_runs: str) -> None:
    report = costing.cost(open_job(two_runs, "questions-open"), "shard")
    assert (report["complete"], report["rows"], report["workers"]) == (False, [], [])
    assert Decimal(report["total"]) == Decimal(report["preemption"]["total"]) == 0
    assert report["per_1k_output_tokens"] is report["on_demand"]["percent"] is None
