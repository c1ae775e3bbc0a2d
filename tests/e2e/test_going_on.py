"""Runs that are stopped, doubled or orphaned, and gone on with: as commands, on this disk."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from pipeline.core import layout
from pipeline.dataset.file_format import ParquetFormat
from pipeline.ledger import Ledger
from pipeline.stores import StoreOptions, open_store
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

RUN = "night"
ROWS = 120


@pytest.fixture
def job(tmp_path: Path) -> str:
    write(questions(ROWS), str(tmp_path / "prompts" / "a.parquet"))
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model=scripted(window=4, tokens=30, step_seconds=0.02),
        shards={"rows": 40},
        chunks={"rows": 5, "seconds": 0.5},
        fleet={"workers": 1, "lease_seconds": 2},
    )
    return str(path)


@contextmanager
def running(job: str, *options: str, log: Path, **environment: str) -> Iterator[Popen[bytes]]:
    command = (sys.executable, "-m", "pipeline.cli", "run", job, "--run-id", RUN, *options)
    with started(*command, log=log, **environment) as process:
        yield process


def ledger_beside(job: str) -> Ledger:
    return Ledger(
        open_store(str(Path(job).parent / "answers"), StoreOptions()), RUN, ParquetFormat()
    )


def checkpoints_beside(job: str) -> int:
    store = open_store(str(Path(job).parent / "answers"), StoreOptions())
    return len(store.list(layout.checkpoints_prefix(RUN)))


def assert_every_row_once(job: str) -> None:
    said = spotmill("verify", job, "--run-id", RUN)
    assert said.code == 0, said.stdout
    table = published(str(Path(job).parent / "answers"), RUN)
    assert table.column("id").to_pylist() == list(range(ROWS))
    assert table.column("error").null_count == ROWS


@contextmanager
def ended(processes: list[psutil.Process]) -> Iterator[None]:
    """They are to end in here by themselves; whatever happens, none is left behind."""
    try:
        yield
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == [], [process.cmdline() for process in alive]
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.prefect
@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, marks=pytest.mark.nightly), signal.SIGINT],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_a_run_with_prefects_own_server_stops_when_asked_and_goes_on(
    job: str, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    log, home = tmp_path / "log", str(tmp_path / "prefect")
    with running(job, log=log, PREFECT_HOME=home, DO_NOT_TRACK="1") as run:
        until(lambda: checkpoints_beside(job) >= 2, 120, "two checkpoints")
        family = psutil.Process(run.pid).children(recursive=True)
        with ended(family):
            # A terminal sends Ctrl-C to the whole group, Prefect's server included.
            if number == signal.SIGINT:
                for child in family:
                    if os.getpgid(child.pid) == os.getpgid(run.pid):
                        child.send_signal(number)
            run.send_signal(number)
            assert run.wait(90) == 75, log.read_text()
    [session] = ledger_beside(job).sessions.all().values()
    assert session.state == "ended", log.read_text()

    resumed = spotmill("resume", job, "--run-id", RUN, "--no-prefect", "--json")
    assert resumed.code == 0, resumed.stderr
    assert resumed.document["tokens"]["wasted"] == 0
    assert_every_row_once(job)


def test_two_supervisors_of_one_run_both_see_it_complete(job: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with (
        running(job, "--no-prefect", log=one) as first,
        running(job, "--no-prefect", log=two) as second,
    ):
        assert first.wait(120) == 0, one.read_text()
        assert second.wait(120) == 0, two.read_text()
    assert_every_row_once(job)


def test_a_worker_whose_supervisor_was_killed_is_left_to_its_work(job: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(job, "--no-prefect", log=log) as run:
        until(lambda: checkpoints_beside(job) >= 1, 60, "a checkpoint")
        [orphan] = psutil.Process(run.pid).children()
        run.kill()
        run.wait()
    with ended([orphan]):
        assert orphan.is_running(), log.read_text()
        resumed = spotmill("resume", job, "--run-id", RUN, "--no-prefect", "--json")
        assert resumed.code == 0, resumed.stderr
        assert_every_row_once(job)
        assert resumed.document["tokens"]["wasted"] == 0
        assert len(ledger_beside(job).sessions.all()) == 1, "a useless worker was started"
