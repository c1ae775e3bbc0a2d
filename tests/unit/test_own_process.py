"""Child processes are overheard, their deaths noticed and explained, and they can be ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import psutil
import pytest

from pipeline.engines.overheard import Overheard
from pipeline.engines.own_process import CoreProcesses

ROOT = Path(__file__).resolve().parents[2]
Start: TypeAlias = Callable[..., tuple[CoreProcesses, int]]


def _fails() -> None:
    raise RuntimeError("the kernel of this child")


def _has_a_child() -> None:
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    child.join()


@pytest.fixture
def overheard() -> Overheard:
    return Overheard()


@pytest.fixture
def start(overheard: Overheard) -> Iterator[Start]:
    cores: list[CoreProcesses] = []

    def begin(target: Callable[..., object], *arguments: object) -> tuple[CoreProcesses, int]:
        process = multiprocessing.get_context("spawn").Process(
            target=target, args=arguments, name="EngineCore"
        )
        with overheard.listening():
            process.start()
        cores.append(CoreProcesses([process], overheard))
        return cores[-1], process.pid or 0

    yield begin
    for core in cores:
        core.kill()
        core.release()


def test_a_child_that_fails_tells_why(start: Start) -> None:
    core, _ = start(_fails)
    assert core.wait(30.0)
    words = "RuntimeError: the kernel of this child; EngineCore ended with exit code 1"
    assert core.last_words() == words


def test_a_child_that_is_killed_says_nothing(start: Start) -> None:
    core, pid = start(time.sleep, 60)
    assert not core.wait(0.01)
    assert not core.dead
    os.kill(pid, signal.SIGKILL)
    assert core.wait(30.0)
    assert core.last_words() == "EngineCore was killed by SIGKILL"
    assert core.dead


def test_stopped_children_and_theirs_can_be_ended(start: Start) -> None:
    core, pid = start(_has_a_child)
    parent = psutil.Process(pid)
    while not parent.children():
        time.sleep(0.05)
    family = [parent, *parent.children(recursive=True)]
    parent.suspend()
    core.kill("no token for 3 s")
    assert core.dead
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert core.last_words() == "no token for 3 s, so its process was killed"
    core.kill()


def test_a_wait_can_be_ended(start: Start) -> None:
    core, _ = start(time.sleep, 60)
    core.release()
    assert core.wait(30.0)
    assert not core.dead


ORPHANING = """
import multiprocessing, os, signal, sys, time
from pipeline.engines.overheard import Overheard
from pipeline.engines.own_process import CoreProcesses
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
    core = CoreProcesses([child], Overheard())
    if sys.argv[1] == "let go":
        core.release()
    print(child.pid, flush=True)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("left", ["guarded", "let go"])
def test_a_killed_workers_engine_does_not_outlive_it(tmp_path: Path, left: str) -> None:
    """Neither SIGKILL nor the kernel's out-of-memory killer leaves a device held by nobody."""
    script = tmp_path / "worker.py"
    script.write_text(ORPHANING)
    with subprocess.Popen(
        [sys.executable, script, left],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as worker:
        assert worker.stdout is not None
        child = psutil.Process(int(worker.stdout.readline()))
        assert worker.wait(30) == -signal.SIGKILL
        gone, alive = psutil.wait_procs([child], timeout=10 if left == "guarded" else 1)
        for one in alive:
            one.kill()
    assert (len(gone), len(alive)) == ((1, 0) if left == "guarded" else (0, 1))


def test_what_is_overheard_is_passed_on(
    overheard: Overheard, capfd: pytest.CaptureFixture[str]
) -> None:
    with overheard.listening():
        os.write(2, b"while\n")
    os.write(2, b"after\n")
    assert overheard.text() == "while\n"
    assert sorted(capfd.readouterr().err.split()) == ["after", "while"]
