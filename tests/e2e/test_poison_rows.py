"""Rows that kill real worker processes, or stop their engine: found by the fleet by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.engines.scripted import DEADLY, HANGING
from tests.e2e.house import job_file, published, questions, scripted, spotmill, write

RUN = "night"
ROWS = 60
BAD = 37


@pytest.mark.parametrize("mark", [DEADLY, pytest.param(HANGING, marks=pytest.mark.nightly)])
def test_a_row_that_kills_its_worker_is_quarantined_and_its_neighbours_finish(
    tmp_path: Path, mark: str
) -> None:
    table = questions(ROWS)
    texts = table["question"].to_pylist()
    texts[BAD] += f" {mark}"
    write(table.set_column(1, "question", pa.array(texts)), f"{tmp_path}/prompts/a.parquet")
    job: dict[str, Any] = {
        "name": "questions",
        "input": {"uri": f"{tmp_path}/prompts/", "prompt": "question"},
        "output": {"uri": f"{tmp_path}/answers/"},
        "model": scripted(window=8, tokens=30, step_seconds=0.001, hang_seconds=0.2),
        "shards": {"rows": 100},
        "chunks": {"rows": 10, "seconds": 0.5},
        "fleet": {"workers": 1, "lease_seconds": 2},
    }
    path = str(job_file(tmp_path / "job.yaml", **job))
    said = spotmill("run", path, "--run-id", RUN, "--no-prefect", "--json")
    assert said.code == 3, said.stderr
    assert said.stderr.count("started worker") > 1, "it took no worker along"
    answers = published(f"{tmp_path}/answers/", RUN).to_pylist()
    assert [row["id"] for row in answers] == list(range(ROWS))
    errors = {row["id"]: row["error"] for row in answers if row["error"]}
    assert list(errors) == [BAD]
    assert errors[BAD].startswith("quarantined: the engine died")
    assert "its last words: " in errors[BAD]
    assert spotmill("verify", path, "--run-id", RUN).code == 0


def test_an_engine_that_cannot_start_stops_the_run_once(tmp_path: Path) -> None:
    write(questions(ROWS), f"{tmp_path}/prompts/a.parquet")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["NoSuchModel"], "model_type": "llama"}')
    job: dict[str, Any] = {
        "name": "questions",
        "input": {"uri": f"{tmp_path}/prompts/", "prompt": "question"},
        "output": {"uri": f"{tmp_path}/answers/"},
        "model": {"id": str(model)},
        "shards": {"rows": 10},
        "fleet": {"workers": 2, "lease_seconds": 4},
    }
    path = str(job_file(tmp_path / "job.yaml", **job))
    said = spotmill("run", path, "--run-id", RUN, "--no-prefect")
    assert said.code == 1
    assert said.stderr.count("started worker") <= 3
    assert "EngineFailed" in said.stderr
    assert "what to do" in said.stderr
