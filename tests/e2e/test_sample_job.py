"""The sample job as a newcomer runs it: real vLLM, quantized, speculating."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.house import SAMPLE, job_file, published, spotmill, started, until

pytestmark = pytest.mark.vllm
RUN = "night"


def sample_job(tmp_path: Path, name: str = "job.yaml", **sections: Any) -> str:
    """A sample job with its output elsewhere."""
    job: dict[str, Any] = yaml.safe_load((SAMPLE / name).read_text())
    job["input"]["uri"] = str(SAMPLE / job["input"]["uri"])
    job["model"]["id"] = str(SAMPLE / job["model"]["id"])
    job["model"]["speculative"]["model"] = str(SAMPLE / job["model"]["speculative"]["model"])
    job["cost"]["prices"] = str(SAMPLE / job["cost"]["prices"])
    job["output"]["uri"] = str(tmp_path / "out")
    return str(job_file(tmp_path / name, **(job | sections)))


def test_the_sample_job_from_prompts_to_three_readers(tmp_path: Path) -> None:
    laptop = {"SPOTMILL_INSTANCE_TYPE": "laptop", "SPOTMILL_INSTANCE_LIFECYCLE": "on-demand"}
    job = sample_job(tmp_path)
    said = spotmill("run", job, "--run-id", RUN, "--no-prefect", "--json", environment=laptop)
    assert said.code == 0, said.stderr
    run = said.document
    assert (run["output"]["rows"], run["output"]["rows_error"]) == (384, 0)
    assert run["tokens"]["draft_accepted"] > 0.3 * run["tokens"]["draft_proposed"] > 0
    assert float(run["cost"]["total"]) > float(run["cost"]["allocated"]) > 0
    assert spotmill("verify", job, "--run-id", RUN).code == 0

    # As users read it: by glob, all columns, nothing but rows under data/.
    parts = f"{tmp_path}/out/data/**/*.parquet"
    by_duckdb = duckdb.read_parquet(parts, hive_partitioning=False).pl()
    by_polars = pl.read_parquet(parts, hive_partitioning=False)
    by_pandas = pd.read_parquet(tmp_path / f"out/data/run={RUN}", partitioning=None)
    tickets = pq.read_table(SAMPLE / "tickets")
    assert by_polars["ticket_id"].to_list() == tickets["ticket_id"].to_pylist()
    for column in ("ticket_id", "completion", "completion_tokens", "finish_reason"):
        assert by_duckdb[column].to_list() == by_polars[column].to_list()
        assert by_pandas[column].tolist() == by_polars[column].to_list()


def test_chats_are_answered(tmp_path: Path) -> None:
    job = sample_job(tmp_path, "job-messages.yaml")
    said = spotmill("run", job, "--run-id", RUN, "--no-prefect", "--json")
    assert said.code == 0, said.stderr
    answers = published(str(tmp_path / "out"), RUN)
    assert answers.column_names[:2] == ["ticket_id", "created_at"]
    assert sum("category:" in text for text in answers["completion"].to_pylist()) > 90


def test_kill_minus_nine_in_mid_shard_and_resume(tmp_path: Path) -> None:
    job = sample_job(
        tmp_path,
        chunks={"rows": 8, "seconds": 0.5},
        fleet={"workers": 1, "lease_seconds": 3},
    )
    command = (sys.executable, "-m", "pipeline.cli", "run", job, "--run-id", RUN, "--no-prefect")
    checkpoints = tmp_path / f"out/runs/{RUN}/checkpoints"
    with started(*command, log=tmp_path / "log") as run:
        until(lambda: len(list(checkpoints.rglob("*.parquet"))) >= 3, 120, "checkpoints")
        [worker] = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.kill()
        os.kill(int(worker), signal.SIGKILL)
    assert not (tmp_path / f"out/runs/{RUN}/manifest.json").exists()
    said = spotmill("resume", job, "--run-id", RUN, "--no-prefect", "--json")
    assert said.code == 0, said.stderr
    assert spotmill("verify", job, "--run-id", RUN).code == 0
    answers = published(str(tmp_path / "out"), RUN)
    tickets = pq.read_table(SAMPLE / "tickets")
    assert answers["ticket_id"].to_pylist() == tickets["ticket_id"].to_pylist()


def test_speculation_of_sampled_requests_is_refused_before_a_model_loads(tmp_path: Path) -> None:
    said = spotmill("run", sample_job(tmp_path, sampling={"temperature": 0.7}), "--no-prefect")
    assert said.code == 2
    assert "rejection sampler reads uninitialised memory" in said.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_load_fails_the_run_once(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (SAMPLE / "models/target").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    job = sample_job(tmp_path, model={"id": str(broken), "engine": {"enforce_eager": True}})
    said = spotmill("run", job, "--run-id", RUN, "--no-prefect")
    assert said.code == 1
    assert "EngineFailed" in said.stderr
    assert len(list((tmp_path / f"out/runs/{RUN}/sessions").iterdir())) == 1
