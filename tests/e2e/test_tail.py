"""Real worker processes share what is left of the one long shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import job_file, published, questions, scripted, spotmill, write

RUN = "night"
LONG, SHORT = 1_200, 8


@pytest.mark.nightly
def test_idle_workers_take_rows_of_the_long_shard(tmp_path: Path) -> None:
    table = questions(LONG + 2 * SHORT)
    for name, first, rows in (("a", 0, LONG), ("b", LONG, SHORT), ("c", LONG + SHORT, SHORT)):
        write(table.slice(first, rows), f"{tmp_path}/prompts/{name}.parquet", row_group_size=LONG)
    job: dict[str, Any] = {
        "name": "questions",
        "input": {"uri": f"{tmp_path}/prompts/", "prompt": "question"},
        "output": {"uri": f"{tmp_path}/answers/"},
        "model": scripted(window=8, tokens=30, step_seconds=0.02),
        "shards": {"rows": LONG},
        "chunks": {"rows": 50, "seconds": 2},
        "fleet": {"workers": 3, "lease_seconds": 4},
    }
    path = str(job_file(tmp_path / "job.yaml", **job))
    said = spotmill("run", path, "--run-id", RUN, "--no-prefect", "--json")
    assert said.code == 0, said.stderr
    answers = published(f"{tmp_path}/answers/", RUN).to_pylist()
    assert [row["id"] for row in answers] == list(range(LONG + 2 * SHORT))
    manifest = json.loads((tmp_path / f"answers/runs/{RUN}/manifests/part-00000.json").read_text())
    helped = [attempt for attempt in manifest["attempts"] if "portion" in attempt]
    assert {attempt["end"] for attempt in helped} == {"drained"}
    # Two of three workers had nothing else to do: most of the rows are theirs.
    assert sum(attempt["rows"] for attempt in helped) > LONG / 3
    assert spotmill("verify", path, "--run-id", RUN).code == 0
