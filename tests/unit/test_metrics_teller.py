"""Telling never stands in a run's way, whatever becomes of those that are told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from pipeline.core.errors import SpotmillError
from pipeline.job_metrics import MetricsSpec
from pipeline.metrics.figures import Figure, Told
from pipeline.metrics.sinks import sinks_of
from pipeline.metrics.teller import Teller
from tests.doubles.server import until_told
from tests.unit.telling import Listener, told

UPDATE = told(Figure("spotmill.cost", 1))
NEVER = 3_600.0


def test_the_last_update_is_told_however_soon_it_is_over() -> None:
    listener = Listener()
    with Teller({"one": lambda: listener}, lambda: UPDATE, NEVER):
        pass
    assert listener.heard == [UPDATE]
    assert listener.closed


def test_updates_come_again_and_again() -> None:
    listener, rows = Listener(), iter(range(1_000_000))
    look = lambda: told(Figure("spotmill.rows.published", next(rows)))  # noqa: E731
    with Teller({"one": lambda: listener}, look, 0.01):
        until_told(lambda: len(listener.heard) >= 4, 10, "four updates")
    values = [update.figures[0].value for update in listener.heard]
    assert values == list(range(len(values)))


def test_nothing_is_told_of_what_nobody_knows_yet() -> None:
    listener = Listener()
    with Teller({"one": lambda: listener}, lambda: None, 0.01):
        time.sleep(0.05)
    assert listener.heard == []


def test_one_that_fails_keeps_no_other_from_hearing_and_is_said_once_of_each_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: list[Exception] = [OSError("no route"), OSError("no route"), ValueError("odd")] * 3

    def fail() -> None:
        raise problems.pop() if problems else OSError("no route")

    deaf, listener = Listener(problem=fail), Listener()
    with Teller({"deaf": lambda: deaf, "one": lambda: listener}, lambda: UPDATE, 0.005):
        until_told(lambda: len(listener.heard) >= 12, 10, "twelve updates")
    said = [r.message for r in caplog.records if r.name == "spotmill.metrics"]
    assert sorted(said) == [
        "metrics, deaf: no route (said once; the run goes on)",
        "metrics, deaf: odd (said once; the run goes on)",
    ]
    assert deaf.heard == []


def test_one_that_cannot_be_opened_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def shut() -> Listener:
        raise SpotmillError("not installed", where="metrics.otlp", hint="install it")

    listener = Listener()
    with Teller({"shut": shut, "one": lambda: listener}, lambda: UPDATE, 0.005):
        until_told(lambda: len(listener.heard) >= 3, 10, "three updates")
    said = [r for r in caplog.records if r.name == "spotmill.metrics"]
    assert [r.levelno for r in said] == [logging.WARNING]
    assert "metrics.otlp: not installed what to do: install it" in said[0].message


def test_what_looks_may_fail_too() -> None:
    listener, looks = Listener(), iter([1, 0, 1, 1])

    def look() -> Told:
        if not next(looks, 1):
            raise OSError("the store is away")
        return UPDATE

    with Teller({"one": lambda: listener}, look, 0.005):
        until_told(lambda: len(listener.heard) >= 3, 10, "it goes on")


def test_a_listener_that_hangs_holds_nobody_up() -> None:
    over = threading.Event()

    def hang() -> None:
        over.wait(60)

    hanging = Listener(problem=hang)
    started = time.monotonic()
    with Teller({"one": lambda: hanging}, lambda: UPDATE, NEVER, leave_seconds=0.2):
        pass
    assert time.monotonic() - started < 5
    over.set()


def test_whoever_was_not_waited_for_has_not_the_last_word() -> None:
    """A supervisor's teller takes in hundreds of manifests while books are closed."""
    listener, goes_on = Listener(), threading.Event()

    def look() -> Told:
        goes_on.wait(60)
        return told(Figure("spotmill.complete", 0), gone=("w1",))

    with Teller({"one": lambda: listener}, look, NEVER, leave_seconds=0.05):
        pass
    closed = told(Figure("spotmill.complete", 1))
    with Teller({"one": lambda: listener}, lambda: closed, NEVER):
        pass
    listener.closed = False
    goes_on.set()
    until_told(lambda: listener.closed, 10, "the first teller's end")
    assert (listener.heard, listener.forgotten) == ([closed], [])


def test_what_a_listener_did_not_forget_it_is_told_to_again() -> None:
    refusals = iter([ConnectionError("restarts")] * 2)

    @dataclass(slots=True)
    class Restarting(Listener):
        def forget(self, run_id: str, worker_id: str) -> None:
            if (problem := next(refusals, None)) is not None:
                raise problem
            Listener.forget(self, run_id, worker_id)

    restarting, steady = Restarting(), Listener()
    update = told(Figure("spotmill.cost", 1), gone=("w1", "w2"))
    sinks = {"restarting": lambda: restarting, "steady": lambda: steady}
    with Teller(sinks, lambda: update, 0.005):
        until_told(lambda: len(restarting.heard) >= 5, 10, "five updates")
    assert restarting.forgotten == steady.forgotten == [("night", "w1"), ("night", "w2")]


def test_workers_that_are_gone_are_forgotten_once_and_one_at_its_own_end() -> None:
    listener = Listener()
    gone = told(Figure("spotmill.cost", 1), gone=("w1", "w2"))
    with Teller({"one": lambda: listener}, lambda: gone, 0.005):
        until_told(lambda: len(listener.heard) >= 3, 10, "three updates")
    assert listener.forgotten == [("night", "w1"), ("night", "w2")]

    own = Listener()
    update = told(Figure("spotmill.worker.rows", 1), worker_id="w7")
    with Teller({"one": lambda: own}, lambda: update, NEVER, forgets_itself=True):
        pass
    assert (own.heard, own.forgotten) == ([update], [("night", "w7")])


@pytest.mark.parametrize(
    ("environment", "listening"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_opentelemetrys_own_variables_count(
    environment: Mapping[str, str], listening: bool
) -> None:
    assert ("otlp" in sinks_of(MetricsSpec(), environment, of_run=False)) == listening


def test_a_job_names_its_listeners_and_cloudwatch_hears_of_runs_alone() -> None:
    spec = MetricsSpec(
        textfile="/x", pushgateway="http://g", otlp="http://c", cloudwatch_namespace="spotmill"
    )
    worker = {"textfile", "pushgateway", "otlp"}
    assert set(sinks_of(spec, {}, of_run=False)) == worker
    assert set(sinks_of(spec, {}, of_run=True)) == worker | {"cloudwatch"}
    assert sinks_of(MetricsSpec(), {}, of_run=True) == {}
