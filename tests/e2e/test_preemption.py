"""Real worker processes on a real S3 API, killed and asked to stop in mid-shard."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.core import layout
from pipeline.stores import open_store
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
from tests.s3 import S3Bucket

RUN = "night"
ROWS = 240


@pytest.fixture
def job(s3_bucket: S3Bucket, tmp_path: Path) -> dict[str, Any]:
    write(questions(ROWS), f"{s3_bucket.uri}/prompts/a.parquet")
    return {
        "name": "questions",
        "input": {"uri": f"{s3_bucket.uri}/prompts/", "prompt": "question"},
        "output": {"uri": f"{s3_bucket.uri}/answers/"},
        "model": scripted(window=8, tokens=30, step_seconds=0.02),
        "shards": {"rows": 100},
        "chunks": {"rows": 10, "seconds": 0.5},
        "fleet": {"workers": 1, "lease_seconds": 2},
    }


def undisturbed(job: dict[str, Any], tmp_path: Path) -> pa.Table:
    calm = job | {
        "output": {"uri": str(tmp_path / "calm")},
        "model": scripted(window=64, tokens=30),
    }
    path = str(job_file(tmp_path / "calm.yaml", **calm))
    assert spotmill("run", path, "--run-id", RUN, "--no-prefect").code == 0
    return published(str(tmp_path / "calm"), RUN)


def checkpoints(bucket: S3Bucket) -> list[str]:
    store = open_store(f"{bucket.uri}/answers/", bucket.options)
    return list(store.list(layout.checkpoints_prefix(RUN)))


def test_a_killed_worker_loses_no_row_and_repeats_none(
    job: dict[str, Any], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    path = str(job_file(tmp_path / "job.yaml", **job))
    assert spotmill("plan", path).code == 0
    supervisor = ("run", path, "--run-id", RUN, "--no-prefect")
    with started(sys.executable, "-m", "pipeline.cli", *supervisor, log=tmp_path / "log") as run:
        until(lambda: len(checkpoints(s3_bucket)) >= 3, 60, "three checkpoints")
        worker = only_child(run.pid)
        # The supervisor first, so that nobody replaces the worker.
        run.kill()
        os.kill(worker, signal.SIGKILL)
    assert spotmill("verify", path, "--run-id", RUN).code == 1

    resumed = spotmill("resume", path, "--run-id", RUN, "--no-prefect", "--json")
    assert resumed.code == 0, resumed.stderr
    assert resumed.document["output"]["rows"] == ROWS
    assert spotmill("verify", path, "--run-id", RUN).code == 0
    table = published(f"{s3_bucket.uri}/answers/", RUN)
    assert table.column("id").to_pylist() == list(range(ROWS))
    assert table.equals(undisturbed(job, tmp_path))
    attempts = [a for m in manifests(s3_bucket) for a in m["attempts"]]
    assert {a["end"] for a in attempts} >= {"lost", "published"}


@pytest.mark.nightly
def test_a_supervisor_replaces_a_killed_worker(
    job: dict[str, Any], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    path = str(job_file(tmp_path / "job.yaml", **job))
    supervisor = ("run", path, "--run-id", RUN, "--no-prefect")
    with started(sys.executable, "-m", "pipeline.cli", *supervisor, log=tmp_path / "log") as run:
        until(lambda: len(checkpoints(s3_bucket)) >= 2, 60, "two checkpoints")
        os.kill(only_child(run.pid), signal.SIGKILL)
        assert run.wait(120) == 0, (tmp_path / "log").read_text()
    assert spotmill("verify", path, "--run-id", RUN).code == 0
    assert published(f"{s3_bucket.uri}/answers/", RUN).equals(undisturbed(job, tmp_path))


def test_sigterm_drains_and_exits_75_and_nothing_is_decoded_twice(
    job: dict[str, Any], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    path = str(job_file(tmp_path / "job.yaml", **job))
    supervisor = ("run", path, "--run-id", RUN, "--no-prefect")
    with started(sys.executable, "-m", "pipeline.cli", *supervisor, log=tmp_path / "log") as run:
        until(lambda: len(checkpoints(s3_bucket)) >= 2, 60, "two checkpoints")
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 75, (tmp_path / "log").read_text()
    resumed = spotmill("resume", path, "--run-id", RUN, "--no-prefect", "--json")
    assert resumed.code == 0, resumed.stderr
    assert resumed.document["tokens"]["wasted"] == 0
    assert published(f"{s3_bucket.uri}/answers/", RUN).equals(undisturbed(job, tmp_path))
    ends = [a["end"] for m in manifests(s3_bucket) for a in m["attempts"]]
    assert "drained" in ends


def manifests(bucket: S3Bucket) -> list[dict[str, Any]]:
    from pipeline.dataset.file_format import ParquetFormat
    from pipeline.ledger import Ledger

    ledger = Ledger(open_store(f"{bucket.uri}/answers/", bucket.options), RUN, ParquetFormat())
    return ledger.shard_manifests(ledger.published())


def only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == 1, children
    return int(children[0])
