"""Signals as notices: real ones, sent to real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.spot.signals import grace_seconds

ROOT = Path(__file__).parents[2]
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}

# Says each new notice, and every tenth of a second that it lives.
PROGRAM = """
import time
from pipeline.spot import signals
notice = signals.SignalNotice(grace_seconds=15.0).install()
said = None
print("ready", flush=True)
while True:
    if notice.pending() != said:
        said = notice.pending()
        print(said.kind, said.reason, said.seconds, flush=True)
    time.sleep(0.01)
"""


@contextmanager
def listening(program: str = PROGRAM) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_sigterm_leaves_the_platforms_grace_and_its_echo_changes_nothing() -> None:
    with listening() as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "stop SIGTERM received 15.0"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        # Later than an echo.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.4)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 75


def test_nobody_kills_after_ctrl_c() -> None:
    with listening() as process:
        process.send_signal(signal.SIGINT)
        assert line(process) == "stop SIGINT received None"
        # systemd or a supervisor passes the same stop on.
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)


def test_a_second_sigterm_that_is_no_echo_exits_at_once() -> None:
    patient = PROGRAM.replace(
        "notice =", "signals._ECHO_SECONDS[signals.signal.SIGTERM] = 0.1\nnotice ="
    )
    with listening(patient) as process:
        process.send_signal(signal.SIGTERM)
        assert line(process).startswith("stop")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 75


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        (POD, 30.0),
        (POD | {"SPOTMILL_GRACE_SECONDS": "15"}, 15.0),
        ({"SPOTMILL_GRACE_SECONDS": "0.5"}, 0.5),
        (POD | {"SPOTMILL_GRACE_SECONDS": ""}, 30.0),
    ],
)
def test_grace_is_the_platforms(environment: dict[str, str], seconds: float | None) -> None:
    assert grace_seconds(environment) == seconds


@pytest.mark.parametrize("given", ["soon", "-1", "0", "nan", "inf", "30s"])
def test_grace_that_is_no_time_is_refused(given: str) -> None:
    with pytest.raises(JobInvalid, match="no number of seconds") as refused:
        grace_seconds({"SPOTMILL_GRACE_SECONDS": given})
    assert refused.value.where == "SPOTMILL_GRACE_SECONDS"


@pytest.mark.parametrize("name", ["SPOTMILL_NOTICES", "SPOTMILL_GRACE_SECONDS"])
def test_a_worker_with_nonsense_in_its_environment_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, "nonsense")
    said = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "worker", str(tmp_path / "job.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.returncode == 2, said.stderr
    assert name in said.stderr
    assert "Traceback" not in said.stderr


def test_signals_of_this_process_are_left_alone() -> None:
    """Prefect's own handler stays where a flow asks for no signals."""
    from pipeline import wiring

    before = signal.getsignal(signal.SIGTERM)
    with wiring.worker_notice(signals=False):
        assert signal.getsignal(signal.SIGTERM) == before
