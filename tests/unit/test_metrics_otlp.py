"""What goes over the wire to an OpenTelemetry collector."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1 import metrics_pb2

from pipeline.metrics.figures import Figure
from pipeline.metrics.otlp import Otlp
from pipeline.metrics.teller import Teller
from tests.doubles.server import Answer, Asked, MetadataDouble
from tests.unit.telling import DURATION, SINCE, TAGS, told

CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
BEGUN = 1_795_136_400_000_000_000
"""`SINCE`, in nanoseconds."""


class Collector(MetadataDouble):
    def answer(self, asked: Asked) -> Answer:
        return Answer(200, headers={"Content-Type": "application/x-protobuf"})


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as double:
        yield double


def attributes(
    point: metrics_pb2.NumberDataPoint | metrics_pb2.HistogramDataPoint,
) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in point.attributes}


def test_a_collector_is_told_in_its_own_terms(collector: Collector) -> None:
    sink = Otlp(collector.url)
    tokens = [
        Figure("spotmill.worker.tokens.decoded", 7),
        Figure("spotmill.cost", Decimal("1.25")),
        Figure("spotmill.worker.seconds", 2.5, {"spotmill.bucket": "idle"}),
        Figure("spotmill.engine.kv_cache.usage", 0.5),
    ]
    sink.tell(told(*tokens, DURATION, worker_id="w1"))
    sink.close()
    (asked,) = collector.asked
    assert (asked.method, asked.path) == ("POST", "/v1/metrics")
    (resource,) = ExportMetricsServiceRequest.FromString(asked.body).resource_metrics
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert (names["service.name"], names["service.instance.id"]) == ("spotmill", "w1")
    (scope,) = resource.scope_metrics
    metrics = {metric.name: metric for metric in scope.metrics}
    assert set(metrics) == {*(figure.name for figure in tokens), DURATION.name}

    decoded = metrics["spotmill.worker.tokens.decoded"]
    assert decoded.unit == "{token}"
    assert decoded.sum.is_monotonic
    assert decoded.sum.aggregation_temporality == CUMULATIVE
    (point,) = decoded.sum.data_points
    assert (point.as_int, point.start_time_unix_nano) == (7, BEGUN)
    assert point.time_unix_nano > BEGUN
    assert attributes(point) == TAGS | {"spotmill.run.id": "night", "spotmill.worker.id": "w1"}
    assert metrics["spotmill.cost"].sum.data_points[0].as_double == 1.25
    seconds = metrics["spotmill.worker.seconds"].sum
    assert not seconds.is_monotonic, "useful time may turn out to have been wasted"
    assert attributes(seconds.data_points[0])["spotmill.bucket"] == "idle"
    assert metrics["spotmill.engine.kv_cache.usage"].gauge.data_points[0].as_double == 0.5

    duration = metrics["gen_ai.client.inference.duration"]
    (spread,) = duration.histogram.data_points
    assert (list(spread.explicit_bounds), list(spread.bucket_counts)) == ([0.5, 2.0], [3, 0, 1])
    assert (spread.count, spread.sum, duration.unit) == (4, 7.25, "s")
    assert not spread.HasField("min"), "nobody knows the quickest of them"
    assert not spread.HasField("max")
    assert attributes(spread).items() >= {
        ("gen_ai.operation.name", "text_completion"),
        ("gen_ai.provider.name", "vllm"),
        ("gen_ai.request.model", "tiny-llama"),
    }
    assert SINCE.startswith("2026-11-20T01:00:00")


def test_a_collectors_refusal_is_raised_and_not_logged(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Otlp(collector.url)
    collector.trouble = "500"
    with caplog.at_level(logging.DEBUG, "opentelemetry"), pytest.raises(ConnectionError) as said:
        sink.tell(told(Figure("spotmill.cost", 1)))
    sink.close()
    assert "500" in str(said.value)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_usual_variables_name_the_collector(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    sink = Otlp(None)
    sink.tell(told(Figure("spotmill.cost", 1)))
    sink.close()
    (asked,) = collector.asked
    assert (asked.path, asked.headers["x-key"]) == ("/v1/metrics", "secret")
    assert b"nightly" in asked.body


def test_a_key_in_the_collectors_address_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job may not hold one, but OpenTelemetry's own variable may."""
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9/v1/metrics?api_key=hush"
    )
    with Teller({"otlp": lambda: Otlp(None)}, lambda: told(Figure("spotmill.cost", 1)), 3_600.0):
        pass
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("metrics, otlp: ")
    assert "/v1/metrics?..." in said
    assert "hush" not in caplog.text
