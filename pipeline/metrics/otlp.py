"""Figures to an OpenTelemetry collector, by OTLP over HTTP (extra `otlp`).

They are sums already, of what is stored or of what the engine counted, so they go to the exporter
as data points of their own rather than through instruments that would count them again.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime
from time import time_ns
from typing import TypeAlias

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from pipeline.metrics.figures import Distribution, Figure, Told
from pipeline.metrics.port import SINK_SECONDS

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.metric_exporter"
_Points: TypeAlias = tuple[list[NumberDataPoint], list[HistogramDataPoint]]


class Otlp:
    """`url` is the collector's; None is what the OTEL_EXPORTER_OTLP_* variables name."""

    def __init__(self, url: str | None) -> None:
        self._said = _LastWords()
        logging.getLogger(_EXPORTER_LOG).addFilter(self._said)
        self._exporter = OTLPMetricExporter(endpoint=url and _whole(url), timeout=SINK_SECONDS)

    def tell(self, told: Told) -> None:
        """Raises `ConnectionError` with the exporter's own words when it was not taken."""
        self._said.text = ""
        result = self._exporter.export(metrics_data(told, time_ns()))
        if result is not MetricExportResult.SUCCESS:
            raise ConnectionError(self._said.text or "the collector did not take it")

    def forget(self, run_id: str, worker_id: str) -> None:
        """A series that is told no more ends by itself."""

    def close(self) -> None:
        self._exporter.shutdown()
        logging.getLogger(_EXPORTER_LOG).removeFilter(self._said)


class _LastWords(logging.Filter):
    """Keeps what the exporter would log at every failure, for whom it is said to once."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        # The first of several tells why; what comes after it tells of trying again.
        if record.levelno >= logging.WARNING and not self.text:
            self.text = record.getMessage()
        return False


def metrics_data(told: Told, now_ns: int) -> MetricsData:
    """One update as the SDK's own data; counters count since the subject's beginning."""
    subject = told.subject
    begun = round(datetime.fromisoformat(subject.since).timestamp() * 1e9)
    by_name: dict[str, list[Figure]] = {}
    for figure in told.figures:
        by_name.setdefault(figure.name, []).append(figure)
    metrics = [_metric(told, figures, begun, now_ns) for figures in by_name.values()]
    resource = Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "spotmill"),
            "service.instance.id": subject.worker_id or subject.run_id,
        }
    )
    scope = ScopeMetrics(InstrumentationScope("spotmill"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(told: Told, figures: list[Figure], begun: int, now: int) -> Metric:
    meaning = figures[0].meaning
    numbers, distributions = _points(told, figures, begun, now)
    data: Histogram | Sum | Gauge
    if meaning.kind == "histogram":
        data = Histogram(distributions, _CUMULATIVE)
    elif meaning.kind == "gauge":
        data = Gauge(numbers)
    else:
        data = Sum(numbers, _CUMULATIVE, is_monotonic=meaning.kind == "counter")
    return Metric(figures[0].name, meaning.help, meaning.unit, data)


def _points(told: Told, figures: list[Figure], begun: int, now: int) -> _Points:
    numbers: list[NumberDataPoint] = []
    distributions: list[HistogramDataPoint] = []
    for figure in figures:
        labels, value = told.subject.labels_of(figure), figure.value
        if isinstance(value, Distribution):
            distributions.append(
                HistogramDataPoint(
                    labels,
                    begun,
                    now,
                    value.count,
                    value.sum,
                    value.counts,
                    value.bounds,
                    # Nobody kept the extremes; a field that is not there says so on the wire.
                    min=None,  # type: ignore[arg-type]
                    max=None,  # type: ignore[arg-type]
                )
            )
        else:
            number = value if isinstance(value, int) else float(value)
            numbers.append(NumberDataPoint(labels, begun, now, number))
    return numbers, distributions


def _whole(url: str) -> str:
    path = "/v1/metrics"
    url = url.rstrip("/")
    return url if url.endswith(path) else url + path
