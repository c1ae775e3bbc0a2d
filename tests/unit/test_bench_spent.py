"""Processor time that methods take: each second once, on whichever thread."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks.spent import Spent

SECONDS = 0.05


class Busy:
    def outer(self) -> None:
        self.inner()

    def inner(self) -> None:
        until = time.thread_time() + SECONDS
        while time.thread_time() < until:
            pass

    def waits(self) -> None:
        time.sleep(10 * SECONDS)

    def fails(self) -> None:
        raise ValueError


def counted(*methods: str) -> tuple[Spent, Busy]:
    kind = type("Counted", (Busy,), {})
    spent = Spent()
    for method in methods:
        spent.on(kind, method)
    return spent, kind()


def test_what_is_inside_another_is_counted_once() -> None:
    spent, busy = counted("outer", "inner")
    busy.outer()
    assert SECONDS <= spent.seconds < 1.9 * SECONDS
    busy.inner()
    assert 2 * SECONDS <= spent.seconds < 3.8 * SECONDS


def test_threads_are_counted_together_and_waiting_is_not() -> None:
    spent, busy = counted("outer", "waits")
    threads = [threading.Thread(target=doing) for doing in (busy.outer, busy.outer, busy.waits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 2 * SECONDS <= spent.seconds < 3.8 * SECONDS


def test_what_fails_is_counted_and_fails() -> None:
    spent, busy = counted("fails", "inner")
    with pytest.raises(ValueError):
        busy.fails()
    busy.inner()
    assert spent.seconds >= SECONDS
