"""Errands run elsewhere; what follows from them runs in the thread that collects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.core.errors import StoreUnavailable
from pipeline.errands import Errands


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def never(problem: Exception) -> None:
    raise AssertionError(problem)


def test_what_follows_runs_in_the_collecting_thread(executor: ThreadPoolExecutor) -> None:
    errands, ran = Errands(executor), list[tuple[int, int]]()
    me = threading.get_ident()
    errands.send(
        threading.get_ident, lambda there: ran.append((there, threading.get_ident())), never
    )
    assert len(errands) == 1
    errands.finish(10.0)
    assert len(errands) == 0
    [(there, here)] = ran
    assert there != me
    assert here == me


def test_nothing_follows_before_it_is_collected(executor: ThreadPoolExecutor) -> None:
    errands, results = Errands(executor), list[int]()
    errands.send(lambda: 1, results.append, never)
    errands.wait(10.0)
    assert results == []
    errands.collect()
    assert results == [1]


def test_what_is_done_is_collected_in_the_order_in_which_it_was_sent(
    executor: ThreadPoolExecutor,
) -> None:
    errands, results, gate = Errands(executor), list[int](), threading.Event()

    def late() -> int:
        assert gate.wait(10.0)
        return 1

    errands.send(late, results.append, never)
    errands.send(lambda: 2, results.append, never)
    gate.set()
    errands.finish(10.0)
    assert results == [1, 2]


def test_a_failure_goes_to_its_own_continuation(executor: ThreadPoolExecutor) -> None:
    errands, problems = Errands(executor), list[Exception]()

    def fail() -> None:
        raise StoreUnavailable("away")

    errands.send(fail, lambda _: None, problems.append)
    errands.finish(10.0)
    assert isinstance(problems[0], StoreUnavailable)


def test_one_failing_continuation_leaves_the_others_to_be_collected(
    executor: ThreadPoolExecutor,
) -> None:
    errands, results = Errands(executor), list[int]()

    def fail(_: int) -> None:
        raise StoreUnavailable("away")

    errands.send(lambda: 1, fail, never)
    errands.send(lambda: 2, results.append, never)
    errands.wait(10.0)
    with pytest.raises(StoreUnavailable):
        errands.collect()
    errands.finish(10.0)
    assert results == [2]
