"""An engine that is stepped and gives nothing is noticed, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest

from pipeline.engines.watchdog import Stall, Watchdog

Look = tuple[int, int | None]


def hangs_at(looks: Iterable[Look], elapsed: float = 1.0) -> list[int]:
    """Numbers of the looks, one a second, at which a hang of ten seconds is seen."""
    stall = Stall(hang_seconds=10.0)
    return [n for n, (pulse, mark) in enumerate(looks) if stall.look(elapsed, pulse, mark)]


def test_a_step_that_blocks_is_a_hang() -> None:
    assert hangs_at((7, 100) for _ in range(30))[0] == 10


def test_steps_that_return_with_nothing_are_a_hang() -> None:
    assert hangs_at((2 * n, 100) for n in range(1, 30))[0] == 10


def test_every_token_begins_the_wait_anew() -> None:
    assert not hangs_at((2 * n, n // 9) for n in range(1, 100))
    assert hangs_at([(1, 1)] * 9 + [(1, 2)] * 30)[0] == 9 + 10


def test_nobody_asking_for_tokens_is_no_hang() -> None:
    """A worker that waits for its store does not step; a step may only just have begun."""
    assert not hangs_at((6, 100) for _ in range(100))
    assert hangs_at([(6, 100)] * 50 + [(7, 100)] * 20)[0] == 50 + 10


def test_nothing_to_do_is_no_hang() -> None:
    assert not hangs_at((2 * n, None) for n in range(100))


def test_a_process_that_was_stopped_itself_has_not_waited_for_long() -> None:
    """A gap of an hour between two looks is this process's own, and counts as two looks."""
    stall = Stall(hang_seconds=10.0)
    assert not any(stall.look(elapsed, 7, 100) for elapsed in (1.0, 1.0, 3600.0, 1.0))


@pytest.mark.parametrize("hang_seconds", [0.5, 300.0])
def test_a_watchdog_barks_a_little_late_and_never_early(hang_seconds: float) -> None:
    time, barks, ended = 0.0, list[tuple[float, str]](), list[float]()

    def wait(seconds: float) -> bool:
        nonlocal time
        time += seconds
        return bool(barks)

    dog = Watchdog(
        hang_seconds,
        mark=lambda: 5,
        wait=wait,
        hung=lambda words: barks.append((time, words)),
        ended=lambda: ended.append(time),
        now=lambda: time,
    )
    dog.pulse += 1
    dog.watch()
    [(at, words)] = barks
    assert hang_seconds <= at <= 1.3 * hang_seconds
    assert words == f"no token for {hang_seconds:g} s"
    assert len(ended) == 1


def test_a_process_with_a_hanging_engine_in_it_ends_and_says_where() -> None:
    script = """
import threading
from pipeline.engines.watchdog import Watchdog, leave_process
quiet = threading.Event()
dog = Watchdog(0.3, lambda: 1, quiet.wait, leave_process, quiet.set)
dog.start()
dog.pulse += 1
def blocked_in_a_step():
    threading.Event().wait()
blocked_in_a_step()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "no token for 0.3 s" in ended.stderr
    assert "in blocked_in_a_step" in ended.stderr
