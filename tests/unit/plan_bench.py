"""A job of a few rows with the scripted engine, and runs of it in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.predicting import selected
from pipeline.predicting.planning import predict
from pipeline.spot.signals import NoNotice
from tests.e2e.house import job_file, questions, write

BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "0.36", on_demand: "0.98"}
  g5.xlarge: {spot: "0.40", on_demand: "1.00"}
"""
ROWS = 60


@dataclass(slots=True)
class Bench:
    place: Path

    @property
    def answers(self) -> str:
        return str(self.place / "answers")

    def ask(self, table: pa.Table, row_group_size: int = 50) -> None:
        """These rows, instead of those that are there."""
        write(table, str(self.place / "prompts" / "a.parquet"), row_group_size)

    def job(self, file: str = "job.yaml", **changes: Any) -> str:
        sections = {
            "name": "questions",
            "input": {"uri": "prompts/", "prompt": "question"},
            "output": {"uri": "answers/"},
            "model": {"id": "scripted://?window=8&tokens=30&step_seconds=0.001"},
            "shards": {"rows": 20},
            "fleet": {"lease_seconds": 2},
            "cost": {"prices": "prices.yaml"},
            **changes,
        }
        return str(job_file(self.place / file, **sections))

    def here(self, run_id: str = "tonight", **changes: Any) -> JobAtHand:
        return open_job(self.job(**changes), run_id)

    def ran(self, run_id: str, **changes: Any) -> dict[str, Any]:
        here = self.here(run_id, **changes)
        made = wiring.plan(here)
        wiring.run_worker(here, NoNotice(), "w1")
        return wiring.close_books(here, made)

    def plan(self, sample: int | None = None, **changes: Any) -> dict[str, Any]:
        here = self.here(**changes)
        return predict(here, wiring.preview(here), sample)


def bench_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """With `ROWS` questions, on a spot machine of the job's price book."""
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "g6.xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    # A file's own fingerprint has its inode's number in it: what is drawn would be by chance.
    monkeypatch.setattr(selected, "input_fingerprint", lambda plan: str(plan.rows))
    (place / "prices.yaml").write_text(BOOK)
    bench = Bench(place)
    bench.ask(questions(ROWS))
    return bench
