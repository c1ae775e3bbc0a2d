"""Runs that Prefect starts: its server killed in mid-run, and a worker's flow run killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil

from pipeline.core import layout
from tests.chaos.field import Field
from tests.chaos.outcome import Outcome
from tests.chaos.reckoning import Books
from tests.chaos.schedule import RunPlan
from tests.e2e.house import until
from tests.e2e.prefect_house import PrefectHouse, prefect_house

_SERVER_AWAY_SECONDS = 20.0


def fight_with_prefect(field: Field) -> Iterator[Outcome]:
    folder = field.folder / "prefect-house"
    folder.mkdir()
    with prefect_house(field.server, folder) as house:
        yield _run(field, house, "chaos-prefect-server")
        yield _run(field, house, "chaos-prefect-worker")


def _run(field: Field, house: PrefectHouse, run_id: str) -> Outcome:
    plan = RunPlan(run_id, 1200, 150, 2, (), step_seconds=0.03)
    job = field.write_job(plan)
    began = time.monotonic()
    outcome = Outcome(run_id, 0.0)
    house.start_adhoc(job, run_id)
    until(lambda: _checkpoints(field, run_id) > 2, 120, "checkpoints")
    if run_id.endswith("server"):
        _lose_the_server(house, outcome)
    else:
        # The engine's process is the flow run's.
        busy = max(field.counters(plan).items(), key=lambda count: count[1])[0]
        os.kill(busy, signal.SIGKILL)
        outcome.kills["worker flow run: work"] += 1
    ledger = field.ledger(run_id)
    until(lambda: ledger.run_manifest() is not None, 300, f"the end of {run_id}")
    until(lambda: _supervisor_state(house, job) == "COMPLETED", 120, "Prefect's word on it")
    # Workers of the run may be about to end, and to be told of.
    until(lambda: not _states(house, "worker", "RUNNING"), 60, "the end of its workers")
    outcome.seconds = time.monotonic() - began
    outcome.rows = field.rows(plan)
    if not outcome.rows.sound:
        outcome.faults.append(f"rows: {outcome.rows}")
    manifest = ledger.run_manifest()
    assert manifest is not None
    tokens = manifest["tokens"]
    decoded = sum(field.counters(plan).values())
    outcome.books = Books(decoded, tokens["output"], tokens["wasted"])
    field.verify(run_id, job, outcome)
    return outcome


def _lose_the_server(house: PrefectHouse, outcome: Outcome) -> None:
    server = psutil.Process(house.server_pid)
    for process in (server, *server.children(recursive=True)):
        process.kill()
        outcome.kills["Prefect server: work"] += 1
    time.sleep(_SERVER_AWAY_SECONDS)
    house.start_server()


def _checkpoints(field: Field, run_id: str) -> int:
    return len(field.store.list(layout.checkpoints_prefix(run_id)))


def _states(house: PrefectHouse, flow: str, state: str) -> list[str]:
    return [run["id"] for run in house.flow_runs_of(flow, "--state-type", state)]


def _supervisor_state(house: PrefectHouse, job: str) -> str:
    runs = house.flow_runs_of("generate")
    [state] = [run["state"]["type"] for run in runs if run["parameters"]["job"] == job]
    return str(state)
