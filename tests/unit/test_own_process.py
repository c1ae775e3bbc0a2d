"""Child processes are overheard, their deaths noticed and explained, and they can be ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import psutil
import pytest

from pipeline.engines.overheard import Overheard
from pipeline.engines.own_process import CoreProcesses


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
def started() -> Iterator[list[BaseProcess]]:
    processes: list[BaseProcess] = []
    yield processes
    for process in processes:
        process.kill()
        process.join()


def start(target: object, overheard: Overheard, started: list[BaseProcess]) -> CoreProcesses:
    process = multiprocessing.get_context("spawn").Process(
        target=target,  # type: ignore[arg-type]
        args=(60,) if target is time.sleep else (),
        name="EngineCore",
    )
    with overheard.listening():
        process.start()
    started.append(process)
    return CoreProcesses([process], overheard)


def test_a_child_that_fails_tells_why(overheard: Overheard, started: list[BaseProcess]) -> None:
    core = start(_fails, overheard, started)
    assert core.wait(30.0)
    words = "RuntimeError: the kernel of this child; EngineCore ended with exit code 1"
    assert core.last_words() == words


def test_a_child_that_is_killed_says_nothing(
    overheard: Overheard, started: list[BaseProcess]
) -> None:
    core = start(time.sleep, overheard, started)
    assert not core.wait(0.01)
    assert not core.dead
    os.kill(started[0].pid or 0, signal.SIGKILL)
    assert core.wait(30.0)
    assert core.last_words() == "EngineCore was killed by SIGKILL"
    assert core.dead


def test_stopped_children_and_theirs_can_be_ended(
    overheard: Overheard, started: list[BaseProcess]
) -> None:
    core = start(_has_a_child, overheard, started)
    parent = psutil.Process(started[0].pid)
    while not parent.children():
        time.sleep(0.05)
    family = [parent, *parent.children(recursive=True)]
    parent.suspend()
    core.kill("no token for 3 s")
    assert core.dead
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert core.last_words() == "no token for 3 s, so its process was killed"
    core.kill()


def test_a_wait_can_be_ended(overheard: Overheard, started: list[BaseProcess]) -> None:
    core = start(time.sleep, overheard, started)
    core.release()
    assert core.wait(30.0)
    assert not core.dead


def test_what_is_overheard_is_passed_on(
    overheard: Overheard, capfd: pytest.CaptureFixture[str]
) -> None:
    with overheard.listening():
        os.write(2, b"while\n")
    os.write(2, b"after\n")
    assert overheard.text() == "while\n"
    assert sorted(capfd.readouterr().err.split()) == ["after", "while"]
