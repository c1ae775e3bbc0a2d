"""CloudWatch's custom metric, put to moto and read back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from hypothesis import example, given
from hypothesis import strategies as st
from moto import mock_aws

from pipeline.metrics.cloudwatch import COST, CloudWatch, dimension
from pipeline.metrics.figures import Figure, Subject, Told
from tests.s3 import dummy_environment
from tests.unit.strategies import bounded
from tests.unit.telling import SINCE, TAGS, told


@pytest.fixture(autouse=True)
def moto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in dummy_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield


def found(namespace: str) -> list[Any]:
    listed: list[Any] = (
        Session().create_client("cloudwatch").list_metrics(Namespace=namespace)["Metrics"]
    )
    return listed


def test_the_cost_is_there_by_the_standard_tags() -> None:
    sink = CloudWatch("spotmill/told")
    sink.tell(
        told(
            Figure("spotmill.cost", Decimal(4)),
            Figure("spotmill.cost.per_1k_output_tokens", Decimal("0.00125")),
        )
    )
    sink.close()
    (metric,) = found("spotmill/told")
    assert metric["MetricName"] == COST == "CostPer1kOutputTokens"
    assert {pair["Name"]: pair["Value"] for pair in metric["Dimensions"]} == TAGS
    now = datetime.now(UTC)
    points = (
        Session()
        .create_client("cloudwatch")
        .get_metric_statistics(
            Namespace="spotmill/told",
            MetricName=COST,
            Dimensions=metric["Dimensions"],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=10),
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
    )
    assert [point["Maximum"] for point in points] == [0.00125]


def test_an_unknown_cost_and_a_worker_put_nothing() -> None:
    sink = CloudWatch("spotmill/silent")
    sink.tell(told(Figure("spotmill.rows.published", 3)))
    sink.tell(told(Figure("spotmill.worker.cost", Decimal(1)), worker_id="w1"))
    sink.forget("night", "w1")
    assert found("spotmill/silent") == []


def test_tags_that_cloudwatch_would_refuse_are_told_as_it_takes_them() -> None:
    tags = {"Project": " ", "Team": "Größe\n", "Environment": "x" * 2_000, "ModelID": "tiny"}
    cost = Figure("spotmill.cost.per_1k_output_tokens", Decimal(1))
    whose = Subject("night", None, tags, "tiny", "chat", SINCE)
    CloudWatch("spotmill/odd").tell(Told(whose, (cost,)))
    (metric,) = found("spotmill/odd")
    assert {pair["Name"]: pair["Value"] for pair in metric["Dimensions"]} == {
        "Project": "unknown",
        "Team": "Gr\\xf6\\xdfe\\n",
        "Environment": "x" * 1_024,
        "ModelID": "tiny",
    }


@bounded
@given(st.text())
@example("\x7f")
@example(" " * 1_024 + "x")
def test_any_tag_is_a_dimension(tag: str) -> None:
    """By the rules of its API, which moto does not hold anybody to."""
    value = dimension(tag)
    assert 1 <= len(value) <= 1_024
    assert value.isascii()
    assert value.isprintable()
    assert value.strip()


def test_without_a_server_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", "http://127.0.0.1:9")
    with pytest.raises(Exception, match="Could not connect"):
        CloudWatch("spotmill/away").tell(
            told(Figure("spotmill.cost.per_1k_output_tokens", Decimal(1)))
        )
