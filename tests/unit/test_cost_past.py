"""Which earlier runs a run's cost is compared with, and what is made of their books."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from pipeline.cost_past import cost_past
from pipeline.cost_watching import window_after
from pipeline.job import JobSpec
from pipeline.job_runs import CompleteRun

JOB: dict[str, Any] = {
    "name": "night",
    "input": {"uri": "prompts/", "prompt": "question"},
    "output": {"uri": "answers/"},
    "model": {"id": "s3://models/llama", "revision": "1"},
}
NOW = JobSpec.model_validate(JOB)


def run(number: int, usd: str | None = "1", minutes: int = 60, **sections: Any) -> CompleteRun:
    row: dict[str, Any] = {
        "node": {"zone": "z"},
        "seconds": {"useful": 10.0},
        "price_per_hour": None,
        "on_demand_price_per_hour": None,
        "price_source": "unknown",
        "cost": usd,
        "decoded": 1_000,
    }
    manifest = {
        "started_at": "2026-11-18T01:00:00.000Z",
        "finished_at": f"2026-11-18T{1 + minutes // 60:02}:{minutes % 60:02}:00.000Z",
        "workers": [row],
        "tokens": {"input": 5, "output": 9},
    }
    return CompleteRun({"run_id": f"run-{number}", "job": JOB | sections}, manifest)


def costs(*runs: CompleteRun) -> list[Decimal | None]:
    return [usage.usd for usage in cost_past(runs, NOW).usages]


def test_the_latest_ten_are_compared_with_the_oldest_first() -> None:
    nights = [run(number, str(number + 1)) for number in range(15)]
    assert costs(*nights) == [Decimal(usd) for usd in range(10, 0, -1)]


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {"id": "s3://models/another", "revision": "1"}},
        {"model": {"id": "s3://models/llama", "revision": "2"}},
        {"model": JOB["model"] | {"engine": {"tensor_parallel_size": 2}}},
        {"model": JOB["model"] | {"speculative": "ngram"}},
        {"sampling": {"max_tokens": 7}},
        {"input": {"uri": "prompts/", "template": "In one word: {{ question }}"}},
    ],
    ids=["model", "revision", "engine", "speculation", "sampling", "prompt"],
)
def test_runs_that_asked_something_else_are_not(changed: dict[str, Any]) -> None:
    assert costs(run(1, "1", **changed), run(2, "2")) == [Decimal(2)]


def test_other_rows_are_no_other_question() -> None:
    today = {"uri": "prompts/date=2026-11-20/", "prompt": "question", "where": "lang = 'en'"}
    assert costs(run(1, "1", input=today, fleet={"workers": 3})) == [Decimal(1)]


def test_a_run_of_an_unknown_cost_tells_nothing() -> None:
    assert costs(run(1, None), run(2, "2")) == [Decimal(2)]
    assert cost_past([run(1, None)], NOW).run_seconds is None


def test_a_job_that_cannot_be_read_any_more_is_passed_over_and_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "spotmill.run"):
        assert costs(run(1, "1", colour="blue"), run(2, "2")) == [Decimal(2)]
    assert "run run-1 is not compared with" in caplog.text


def test_a_past_that_cannot_be_read_stops_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> Iterator[CompleteRun]:
        yield run(1)
        raise OSError("the store is away")

    assert costs(*()) == []
    assert cost_past(away(), NOW).usages == ()
    assert "earlier runs are not compared with: the store is away" in caplog.text


@pytest.mark.parametrize(("minutes", "seconds"), [(600, 300.0), (60, 150.0), (20, 50.0), (1, 30.0)])
def test_shorter_runs_have_shorter_windows(minutes: int, seconds: float) -> None:
    past = cost_past([run(1, minutes=minutes), run(2, minutes=minutes)], NOW)
    assert window_after(past, lease_seconds=30.0).seconds == seconds


def test_without_a_past_windows_are_five_minutes() -> None:
    assert window_after(cost_past([], NOW), lease_seconds=30.0).seconds == 300.0
