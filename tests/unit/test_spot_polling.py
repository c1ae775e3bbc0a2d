"""The poller: what it keeps, what it survives, and that it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.core.notice import Notice, graver
from pipeline.spot.polling import PolledNotice
from pipeline.spot.promise import Promise
from pipeline.spot.several import SeveralNotices
from tests.doubles.server import until_told

RISK = Notice("risk", "maybe")
RECLAIM = Notice("reclaim", "soon", 100.0)
STOP = Notice("stop", "now", 30.0)


class Script:
    """A probe that answers from a list, and then with its last entry for ever."""

    def __init__(self, *answers: Notice | Exception | None) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.released = threading.Event()

    def __call__(self) -> Notice | None:
        self.asked += 1
        answer = self._answers[min(self.asked, len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def polled(self, interval_seconds: float = 0.001) -> PolledNotice:
        return PolledNotice("script", self, interval_seconds, self.released.set)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "spotmill.spot"):
        yield caplog


def test_nothing_is_pending_before_and_while_nothing_is_told() -> None:
    script = Script(None)
    polled = script.polled()
    assert polled.pending() is None
    polled.start()
    until_told(lambda: script.asked > 5, 5, "asked again and again")
    assert polled.pending() is None
    polled.close()
    assert script.released.is_set()


def test_only_a_graver_notice_replaces_one() -> None:
    script = Script(RISK, None, RECLAIM, RISK, Notice("reclaim", "another", 5.0), STOP, RECLAIM)
    polled = script.polled()
    seen: list[Notice | None] = []
    polled.start()
    while script.asked < 10:
        if (now := polled.pending()) not in seen:
            seen.append(now)
    polled.close()
    assert [notice for notice in seen if notice] == [
        notice for notice in (RISK, RECLAIM, STOP) if notice in seen
    ]
    assert polled.pending() == STOP


def test_what_a_probe_raises_is_said_once_and_tried_again(
    warnings: pytest.LogCaptureFixture,
) -> None:
    script = Script(OSError("no route"), None, ValueError("nonsense"), RECLAIM)
    polled = script.polled().start()
    until_told(polled.pending, 5, "the notice after two failures")
    polled.close()
    said = [record.getMessage() for record in warnings.records]
    assert len([line for line in said if "cannot be read" in line]) == 1
    assert "no route" in said[0]
    assert any("soon" in line and "100 s left" in line for line in said)


def test_pauses_grow_while_failures_last(monkeypatch: pytest.MonkeyPatch) -> None:
    polled = Script(None).polled(interval_seconds=1.0)
    pauses = [polled._pause_seconds(failures) for failures in (0, 1, 2, 3, 4, 5, 500)]
    assert pauses == [1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    slow = Script(None).polled(interval_seconds=30.0)
    assert slow._pause_seconds(9) == 30.0, "never shorter than the interval"


def test_a_probe_that_hangs_is_left_behind_and_not_heard() -> None:
    go_on = threading.Event()
    released = threading.Event()

    def hang() -> Notice:
        go_on.wait(10)
        return RECLAIM

    polled = PolledNotice("hanging", hang, 0.0, released.set).start()
    started = time.monotonic()
    assert polled.pending() is None, "without waiting for the probe"
    polled.close()
    assert time.monotonic() - started < 1.0
    go_on.set()
    assert released.wait(5)
    assert polled.pending() is None


def test_several_sources_are_as_grave_as_the_gravest() -> None:
    first, second = Held(), Held()
    both = SeveralNotices(first, second)
    assert both.pending() is None
    second.notice = RISK
    assert both.pending() == RISK
    second.notice = RECLAIM
    assert both.pending() == RECLAIM
    first.notice = Notice("reclaim", "later, and no graver")
    assert both.pending() == RECLAIM, "once told, a notice stays"
    first.notice = STOP
    assert both.pending() == STOP


class Held:
    notice: Notice | None = None

    def pending(self) -> Notice | None:
        return self.notice


def test_graver() -> None:
    assert graver(None, None) is None
    assert graver(None, RISK) is RISK
    assert graver(STOP, RECLAIM) is STOP
    assert graver(RISK, None) is RISK


def test_a_promise_counts_from_the_last_answer_without_a_notice() -> None:
    promise = Promise(120.0)
    assert promise.left(1000.0) is None, "the notice may be of any age"
    promise.none_yet(1000.0)
    assert promise.left(1005.0) == 115.0
    promise.none_yet(1005.0)
    assert promise.left(1010.0) == 115.0
    assert promise.left(1124.0) is None, "a second left is no basis for a deadline"
    assert promise.left(1300.0) is None
