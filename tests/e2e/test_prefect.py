"""`prefect deployment run 'generate/adhoc'` with a real server, a real worker, S3 and real vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.core import layout
from pipeline.engines.preload import cpu_environment
from pipeline.stores import open_store
from tests.e2e.house import (
    ROOT,
    SAMPLE,
    job_file,
    published,
    questions,
    scripted,
    spotmill,
    started,
    until,
    write,
)
from tests.s3 import S3Bucket, S3Server, free_port

pytestmark = pytest.mark.prefect
BIN = Path(sys.executable).parent


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def prefect(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [BIN / "prefect", "--no-prompt", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def house(
    s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A Prefect server with this checkout's deployments and one process worker."""
    port, tmp_path = free_port(), tmp_path_factory.mktemp("prefect")
    environment = {
        **s3_server.environment,
        "AWS_ENDPOINT_URL": s3_server.endpoint_url,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        **cpu_environment(2),
    }
    server = (BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    worker = (BIN / "prefect", "worker", "start", "--pool", "local", "--type", "process")
    with ExitStack() as stack:
        stack.enter_context(started(*map(str, server), log=tmp_path / "server", **environment))
        until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), 60, "Prefect server")
        prefect("work-pool", "create", "--type", "process", "local", environment=environment)
        prefect("deploy", "--all", environment=environment)
        stack.enter_context(started(*map(str, worker), log=tmp_path / "worker", **environment))
        yield environment


def flow_runs_of(flow: str, house: dict[str, str], *options: str) -> list[dict[str, Any]]:
    found = prefect(
        "flow-run", "ls", "--flow-name", flow, "-o", "json", *options, environment=house
    )
    runs: list[dict[str, Any]] = json.loads(found)
    return runs


def run_adhoc(house: dict[str, str], job: str, run_id: str) -> str:
    return prefect(
        *("deployment", "run", "generate/adhoc", "--watch"),
        *("--param", f"job={job}", "--param", f"run_id={run_id}", "--param", "workers=2"),
        environment=house,
    )


def sample_job_on(bucket: S3Bucket, tmp_path: Path) -> str:
    """The sample job with input, output and prices in the bucket, its models on this disk."""
    sections: dict[str, Any] = yaml.safe_load((SAMPLE / "job.yaml").read_text())
    for part in sorted((SAMPLE / "tickets").glob("*.parquet")):
        write(pq.read_table(part), f"{bucket.uri}/tickets/{part.name}", row_group_size=48)
    model = sections["model"]
    model["id"] = str(SAMPLE / "models/target-w8a8")
    model["speculative"]["model"] = str(SAMPLE / "models/draft")
    return str(
        job_file(
            tmp_path / "job.yaml",
            **sections
            | {
                "input": sections["input"] | {"uri": f"{bucket.uri}/tickets/"},
                "output": {"uri": f"{bucket.uri}/answers/"},
                "cost": {"prices": str(SAMPLE / "prices.yaml")},
                "shards": {"rows": 48},
            },
        )
    )


@pytest.mark.vllm
def test_two_worker_flow_runs_answer_every_row(
    house: dict[str, str], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    said = run_adhoc(house, sample_job_on(s3_bucket, tmp_path), "night")
    assert "Completed" in said, said
    table = published(f"{s3_bucket.uri}/answers/", "night")
    tickets = pq.read_table(SAMPLE / "tickets")
    assert table.select(tickets.column_names).equals(tickets)
    assert table.column("error").null_count == len(table) == 384
    assert spotmill("verify", str(tmp_path / "job.yaml"), "--run-id", "night").code == 0
    flow_runs = flow_runs_of("worker", house)
    assert [run["state_name"] for run in flow_runs] == ["Completed", "Completed"]
    store = open_store(f"{s3_bucket.uri}/answers/", s3_bucket.options)
    assert len(store.list(layout.sessions_prefix("night"))) == 2


def test_a_job_that_cannot_run_fails_with_its_reason(
    house: dict[str, str], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    path = job_file(
        tmp_path / "job.yaml",
        name="nothing",
        input={"uri": f"{s3_bucket.uri}/nothing/", "prompt": "question"},
        output={"uri": f"{s3_bucket.uri}/answers/"},
        model=scripted(),
    )
    with pytest.raises(AssertionError, match="finished in state 'Failed'"):
        run_adhoc(house, str(path), "night")
    [failed] = flow_runs_of("generate", house, "--state-type", "FAILED")
    assert "no Parquet file is there" in failed["state"]["message"]


def test_a_cancelled_supervisor_can_be_gone_on_with(
    house: dict[str, str], s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    write(questions(200), f"{s3_bucket.uri}/prompts/a.parquet")
    path = str(
        job_file(
            tmp_path / "job.yaml",
            name="questions",
            input={"uri": f"{s3_bucket.uri}/prompts/", "prompt": "question"},
            output={"uri": f"{s3_bucket.uri}/answers/"},
            model=scripted(window=4, tokens=40, step_seconds=0.02),
            shards={"rows": 50},
            chunks={"rows": 10, "seconds": 0.5},
            fleet={"workers": 2, "lease_seconds": 2},
        )
    )
    prefect(
        *("deployment", "run", "generate/adhoc", "--param", f"job={path}"),
        *("--param", "run_id=night"),
        environment=house,
    )
    store = open_store(f"{s3_bucket.uri}/answers/", s3_bucket.options)
    until(lambda: len(store.list(layout.checkpoints_prefix("night"))) > 2, 90, "checkpoints")
    [supervisor] = flow_runs_of("generate", house, "--state-type", "RUNNING")
    prefect("flow-run", "cancel", supervisor["id"], environment=house)
    assert "Completed" in run_adhoc(house, path, "night")
    assert spotmill("verify", path, "--run-id", "night").code == 0
    table = published(f"{s3_bucket.uri}/answers/", "night")
    assert table.column("id").to_pylist() == list(range(200))
