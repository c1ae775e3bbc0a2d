"""A budget that is reached, and raised: as commands, with real workers on this disk."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.at_hand import open_job
from tests.e2e.house import (
    job_file,
    published,
    questions,
    scripted,
    spotmill,
    started,
    until,
    write,
)
from tests.e2e.test_metrics import read

RUN = "night"
ROWS = 60
NODE = {"SPOTMILL_INSTANCE_TYPE": "box", "SPOTMILL_INSTANCE_LIFECYCLE": "spot"}
BOOK = "as_of: 2026-11-20\nsource: made up\nmachines:\n  box: {spot: 3600}\n"
"""A dollar a second."""


def job_with(place: Path, metrics: Mapping[str, str] | None = None, **cost: Any) -> str:
    (place / "prices.yaml").write_text(BOOK)
    return str(
        job_file(
            place / "job.yaml",
            name="questions",
            input={"uri": "prompts/", "prompt": "question"},
            output={"uri": "answers/"},
            model=scripted(window=4, tokens=30, step_seconds=0.05),
            shards={"rows": 20},
            chunks={"rows": 5, "seconds": 0.5},
            fleet={"workers": 1, "lease_seconds": 2},
            cost={"prices": "prices.yaml", **cost},
            metrics=dict(metrics or {}),
        )
    )


def spend(job: str, command: str) -> Any:
    return spotmill(command, job, "--run-id", RUN, "--no-prefect", environment=NODE)


def test_a_budget_stops_a_run_clean_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    write(questions(ROWS), str(tmp_path / "prompts" / "a.parquet"))
    job = job_with(tmp_path, {"textfile": str(tmp_path / "prom")}, budget_usd=17, warn_usd=3)
    said = spend(job, "run")
    assert said.code == 4, said.stderr
    assert "the budget of 17 USD is reached" in said.stderr
    assert "more than 3" in said.stderr
    spent = spotmill("cost", job, "--run-id", RUN, "--json").document
    assert 0 < Decimal(spent["total"]) <= 17
    assert [worker["state"] for worker in spent["workers"]] == ["ended"], "drained, not killed"
    # Perhaps nobody ever goes on: what was told last has to be so.
    told = read((tmp_path / "prom" / f"spotmill-{RUN}.prom").read_text())
    assert told["spotmill_cost_total"] == float(spent["total"])
    assert (told["spotmill_workers ended"], told.get("spotmill_workers work")) == (1, None)

    again = spend(job, "resume")
    assert again.code == 4, "what was spent before counts"

    job = job_with(tmp_path, budget_usd=500)
    assert spend(job, "resume").code == 0
    assert spotmill("verify", job, "--run-id", RUN).code == 0
    table = published(str(tmp_path / "answers"), RUN)
    assert table.column("id").to_pylist() == list(range(ROWS))


def test_workers_keep_to_the_budget_when_nobody_supervises_them(tmp_path: Path) -> None:
    write(questions(ROWS), str(tmp_path / "prompts" / "a.parquet"))
    job = job_with(tmp_path, budget_usd=17)
    command = (sys.executable, "-m", "pipeline.cli", "run", job, "--run-id", RUN, "--no-prefect")

    def states() -> list[str]:
        return [session.state for session in open_job(job, RUN).ledger.sessions.all().values()]

    with started(*command, log=tmp_path / "run.log", **NODE) as run:
        until(lambda: states() == ["work"], 60, "a worker at work")
        run.kill()
        until(lambda: states() == ["ended"], 60, "its end")
    spent = spotmill("cost", job, "--run-id", RUN, "--json").document
    assert 0 < Decimal(spent["total"]) <= 17
    assert not spent["complete"]
    assert spend(job_with(tmp_path, budget_usd=500), "resume").code == 0
