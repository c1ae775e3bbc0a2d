"""Workers as processes: what an exit says of them, and that being asked to stop stops them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from pipeline.core.fleet import WorkerEnd
from pipeline.pools import local
from pipeline.pools.local import LocalPool

Started: TypeAlias = Callable[..., LocalPool]

PATIENCE_SECONDS = 30


class StandIn(LocalPool):
    """Its workers run `script`, which is told of nothing but its own arguments."""

    def __init__(self, script: str, environment: Mapping[str, str]) -> None:
        super().__init__([], environment)
        self._command = [sys.executable, "-I", "-S", "-c", script]


@pytest.fixture
def started() -> Iterator[Started]:
    """Makes a pool with one worker, `w-0`, that is gone after the test whatever happens."""
    with ExitStack() as stack:

        def start(script: str, **environment: str) -> LocalPool:
            pool = StandIn(script, environment)
            stack.callback(pool.stop)
            pool.start("w-0")
            return pool

        yield start


def end_of(pool: LocalPool) -> WorkerEnd:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (ended := pool.ended()):
        assert time.monotonic() < deadline, "the worker does not end"
        time.sleep(0.01)
    assert list(ended) == ["w-0"]
    return ended["w-0"]


def appears(path: Path) -> str:
    """What the worker wrote there, once it is whole."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.01)
    return path.read_text().strip()


@pytest.mark.parametrize("code", [0, 3, 75])
def test_done_done_with_errors_and_drained_are_no_problems(code: int, started: Started) -> None:
    assert end_of(started(f"raise SystemExit({code})")) == WorkerEnd()


def test_a_refused_job_would_be_refused_to_all(started: Started) -> None:
    assert end_of(started("raise SystemExit(2)")) == WorkerEnd("exit code 2", fatal=True)


def test_a_failure_is_one_workers_own(started: Started) -> None:
    assert end_of(started("raise SystemExit(1)")) == WorkerEnd("exit code 1")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGSEGV])
def test_a_signal_is_named(number: signal.Signals, started: Started) -> None:
    pool = started(f"import os; os.kill(os.getpid(), {int(number)})")
    assert end_of(pool) == WorkerEnd(f"killed by {number.name}")


def test_one_that_was_asked_to_stop_before_it_could_listen_has_no_problem(
    started: Started,
) -> None:
    assert end_of(started("import os; os.kill(os.getpid(), 15)")) == WorkerEnd()


def test_a_signal_without_a_name_is_told_by_its_number(started: Started) -> None:
    number = signal.SIGRTMIN + 1
    problem = end_of(started(f"import os; os.kill(os.getpid(), {number})")).problem
    assert problem is not None
    assert str(int(number)) in problem


def test_an_end_is_told_of_once(started: Started) -> None:
    pool = started("pass")
    assert pool.running() == 1
    end_of(pool)
    assert pool.running() == 0
    assert pool.ended() == {}


def test_a_worker_is_told_its_name_and_given_the_environment(
    started: Started, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    script = "import os, sys; print(*sys.argv[1:], os.environ['MOOD'], file=open({!r}, 'w'))"
    pool = started(script.format(str(said)), MOOD="calm")
    assert end_of(pool) == WorkerEnd()
    assert appears(said) == "--worker-id w-0 calm"


def test_a_worker_is_a_group_of_its_own_and_hears_no_ctrl_c(
    started: Started, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    end_of(started(f"import os; print(os.getsid(0), file=open({str(said)!r}, 'w'))"))
    assert int(appears(said)) != os.getsid(0)


def test_stop_asks_workers_to_drain_and_waits_until_they_did(
    started: Started, tmp_path: Path
) -> None:
    ready, said = tmp_path / "ready", tmp_path / "said"
    pool = started(
        "import signal, sys, time\n"
        "def drain(*_):\n"
        "    time.sleep(0.2)\n"
        f"    print('drained', file=open({str(said)!r}, 'w'))\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, drain)\n"
        f"print('ready', file=open({str(ready)!r}, 'w'))\n"
        "time.sleep(60)\n"
    )
    appears(ready)
    pool.stop()
    assert said.read_text() == "drained\n"
    assert pool.ended() == {"w-0": WorkerEnd()}


def test_a_worker_that_will_not_drain_is_killed(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_DRAIN_SECONDS", 0.2)
    ready = tmp_path / "ready"
    pool = started(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"print('ready', file=open({str(ready)!r}, 'w'))\n"
        "time.sleep(60)\n"
    )
    appears(ready)
    pool.stop()
    assert pool.ended() == {"w-0": WorkerEnd("killed by SIGKILL")}


def test_stop_after_the_end_is_no_error(started: Started) -> None:
    pool = started("pass")
    end_of(pool)
    pool.stop()
    pool.stop()
    assert pool.running() == 0


def test_all_that_are_deaf_are_killed_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "_DRAIN_SECONDS", 1.0)
    deaf = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).write_text('deaf\\n'); time.sleep(60)"
    )
    pool = StandIn(deaf, {})
    for nth in range(4):
        pool.start(f"w-{nth}")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(tmp_path.iterdir())) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    asked_at = time.monotonic()
    pool.stop()
    assert time.monotonic() - asked_at < 3.0
    assert all(end.problem == "killed by SIGKILL" for end in pool.ended().values())
