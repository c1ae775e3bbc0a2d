"""From a cloud's metadata service to a worker's exit code: nothing lost, nothing decoded twice."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.money import Node
from tests.doubles.azure_metadata import AzureMetadata
from tests.doubles.google_metadata import GoogleMetadata
from tests.doubles.imds import Imds
from tests.doubles.server import MetadataDouble
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
ROWS, TOKENS = 48, 60
# At eight rows at a time, generating takes 18 seconds; a notice is given after one or two.
STEP_SECONDS = 0.05


def job_here(tmp_path: Path, step_seconds: float) -> JobAtHand:
    write(questions(ROWS), str(tmp_path / "prompts/a.parquet"))
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model=scripted(window=8, tokens=TOKENS, step_seconds=step_seconds),
        shards={"rows": 24},
        chunks={"rows": 10, "seconds": 0.5},
        fleet={"workers": 1, "lease_seconds": 2},
        # These nodes say that they are of a cloud, whose prices no test is to ask.
        cost={"live_prices": False},
    )
    made = open_job(str(path), RUN)
    wiring.plan(made)
    return made


@pytest.fixture
def here(tmp_path: Path) -> JobAtHand:
    return job_here(tmp_path, STEP_SECONDS)


def interrupted(
    cloud: str, double: MetadataDouble, announce: Callable[[], object], here: JobAtHand, log: Path
) -> None:
    """One worker, told in mid-run that its machine goes."""
    with started(
        *(sys.executable, "-m", "pipeline.cli", "worker", here.uri, "--run-id", RUN),
        log=log,
        SPOTMILL_NOTICES=cloud,
        SPOTMILL_NOTICE_ENDPOINT=double.url,
        # Where workers of one machine find each other.
        TMPDIR=str(log.parent),
    ) as worker:
        until(lambda: checkpoints(here) >= 2, 60, "two checkpoints")
        assert double.asked, "listening while it works"
        announce()
        # At the latest, a notice's seconds after it was heard.
        assert worker.wait(60) == 75, log.read_text()


def checkpoints(here: JobAtHand) -> int:
    return len(list(Path(here.job.output.uri).glob(f"runs/{RUN}/checkpoints/*/*")))


def assert_resumed_without_waste(here: JobAtHand) -> None:
    assert 0 < decoded(here) < ROWS * TOKENS, "drained in mid-run"
    calm = {"SPOTMILL_NOTICES": "none"}
    arguments = (here.uri, "--run-id", RUN)
    resumed = spotmill("resume", *arguments, "--no-prefect", "--json", environment=calm)
    assert resumed.code == 0, resumed.stderr
    assert resumed.document["tokens"]["wasted"] == 0
    assert spotmill("verify", *arguments).code == 0
    table = published(here.job.output.uri, RUN)
    assert table.column("id").to_pylist() == list(range(ROWS))
    assert sum(table.column("completion_tokens").to_pylist()) == decoded(here)


def decoded(here: JobAtHand) -> int:
    return sum(session.decoded for session in here.ledger.sessions.all().values())


def test_a_worker_drains_on_awss_notice(here: JobAtHand, tmp_path: Path) -> None:
    with Imds() as imds:
        # Before a termination there are two minutes to use; before a hibernation there is no time.
        interrupted("aws", imds, lambda: imds.announce("hibernate"), here, tmp_path / "log")
    [session] = here.ledger.sessions.all().values()
    assert session.node == Node("i-0b22a22eec53b9321", "g6.xlarge", "us-east-1a", "spot")
    assert_resumed_without_waste(here)


@pytest.mark.nightly
def test_a_worker_drains_on_azures_notice_and_then_lets_its_machine_go(tmp_path: Path) -> None:
    # Twice what can still be done in the 29 seconds that are left.
    here = job_here(tmp_path, 3 * STEP_SECONDS)
    with AzureMetadata() as azure:
        interrupted("azure", azure, lambda: azure.schedule("Preempt"), here, tmp_path / "log")
        assert len(azure.acknowledged) == 1
    assert_resumed_without_waste(here)


@pytest.mark.nightly
def test_a_supervisor_starts_no_worker_on_a_machine_that_goes(
    here: JobAtHand, tmp_path: Path
) -> None:
    with (
        Imds() as imds,
        started(
            *(sys.executable, "-m", "pipeline.cli", "run", here.uri, "--run-id", RUN),
            "--no-prefect",
            log=tmp_path / "log",
            SPOTMILL_NOTICES="aws",
            SPOTMILL_NOTICE_ENDPOINT=imds.url,
        ) as run,
    ):
        until(lambda: checkpoints(here) >= 2, 60, "two checkpoints")
        imds.announce("hibernate")
        assert run.wait(60) == 75, (tmp_path / "log").read_text()
    assert_resumed_without_waste(here)


def test_a_flow_run_hears_its_cloud_too(
    here: JobAtHand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow's function alone: what Prefect does around it has its own tests."""
    from flows.worker import worker

    before = signal.getsignal(signal.SIGTERM)
    with GoogleMetadata() as metadata:
        monkeypatch.setenv("SPOTMILL_NOTICES", "google")
        monkeypatch.setenv("SPOTMILL_NOTICE_ENDPOINT", metadata.url)
        metadata.preempt()
        state = worker.fn(here.uri, RUN)
    assert state.is_cancelled()
    assert state.message is not None
    assert "Google preempts this VM" in state.message
    assert signal.getsignal(signal.SIGTERM) == before
