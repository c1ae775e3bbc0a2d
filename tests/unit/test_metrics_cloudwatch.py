"""CloudWatch's custom metric, put to a server that speaks its protocol, and read back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

from pipeline.metrics.cloudwatch import COST, CloudWatch
from pipeline.metrics.figures import Figure
from tests.s3 import running_server
from tests.unit.telling import TAGS, told


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running_server(tmp_path_factory.mktemp("cloudwatch"), "cloudwatch") as started:
        yield started.environment | {"AWS_ENDPOINT_URL_CLOUDWATCH": started.endpoint_url}


@pytest.fixture(autouse=True)
def at_server(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)


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


def test_without_a_server_it_raises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: dict[str, str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", "http://127.0.0.1:9")
    with pytest.raises(Exception, match="Could not connect"):
        CloudWatch("spotmill/away").tell(
            told(Figure("spotmill.cost.per_1k_output_tokens", Decimal(1)))
        )
