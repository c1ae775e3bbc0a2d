"""A Prefect server, a process worker and this checkout's deployments, as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from pipeline.engines.preload import cpu_environment
from tests.e2e.house import ROOT, started, until
from tests.s3 import S3Server, free_port

_BIN = Path(sys.executable).parent


@dataclass
class PrefectHouse:
    """`environment` lets commands, flows and workers reach both the server and object storage."""

    port: int
    folder: Path
    environment: dict[str, str]
    server_pid: int = 0
    _server: ExitStack = field(default_factory=ExitStack)

    def start_server(self) -> None:
        """Started again, it finds what it knew before: its database is a file."""
        command = ("server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        log = self.folder / "server"
        server = self._server.enter_context(
            started(str(_BIN / "prefect"), *command, log=log, **self.environment)
        )
        self.server_pid = server.pid
        until(self.answers, 90, "Prefect server")

    def stop_server(self) -> None:
        self._server.close()

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def prefect(self, *arguments: str) -> str:
        done = subprocess.run(
            [_BIN / "prefect", "--no-prompt", *arguments],
            cwd=ROOT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def flow_runs_of(self, flow: str, *options: str) -> list[dict[str, Any]]:
        found = self.prefect("flow-run", "ls", "--flow-name", flow, "-o", "json", *options)
        runs: list[dict[str, Any]] = json.loads(found)
        return runs

    def events(self, name: str) -> list[dict[str, Any]]:
        """Those of this name that the server has kept."""
        api, wanted = self.environment["PREFECT_API_URL"], {"filter": {"event": {"name": [name]}}}
        answer = httpx.post(f"{api}/events/filter", json=wanted, timeout=10).raise_for_status()
        found: list[dict[str, Any]] = answer.json()["events"]
        return found

    def run_adhoc(self, job: str, run_id: str) -> str:
        """Start the deployment with two workers and wait for its end."""
        return self.prefect(
            *("deployment", "run", "generate/adhoc", "--watch"),
            *("--param", f"job={job}", "--param", f"run_id={run_id}", "--param", "workers=2"),
        )

    def start_adhoc(self, job: str, run_id: str) -> None:
        self.prefect(
            *("deployment", "run", "generate/adhoc"),
            *("--param", f"job={job}", "--param", f"run_id={run_id}"),
        )


@contextmanager
def prefect_house(s3: S3Server, folder: Path) -> Iterator[PrefectHouse]:
    """A Prefect server with this checkout's deployments and one process worker."""
    port = free_port()
    environment = {
        **s3.environment,
        "AWS_ENDPOINT_URL": s3.endpoint_url,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        # What flow runs on it cost, where a job has the sample's price book.
        "SPOTMILL_INSTANCE_TYPE": "laptop",
        "SPOTMILL_INSTANCE_LIFECYCLE": "on-demand",
        **cpu_environment(2),
    }
    house = PrefectHouse(port, folder, environment)
    worker = (str(_BIN / "prefect"), "worker", "start", "--pool", "local", "--type", "process")
    with ExitStack() as stack:
        stack.callback(house.stop_server)
        house.start_server()
        house.prefect("work-pool", "create", "--type", "process", "local")
        house.prefect("deploy", "--all")
        stack.enter_context(started(*worker, log=folder / "worker", **environment))
        yield house
