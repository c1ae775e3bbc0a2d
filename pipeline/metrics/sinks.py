"""Which listeners a job and its environment ask for. Their packages are only then imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.core.errors import SpotmillError
from pipeline.job_metrics import MetricsSpec
from pipeline.metrics.port import Sink


def sinks_of(
    spec: MetricsSpec, environment: Mapping[str, str], *, of_run: bool
) -> dict[str, Callable[[], Sink]]:
    """How each is opened, by name. CloudWatch only hears of the run."""
    sinks: dict[str, Callable[[], Sink]] = {}
    if (folder := spec.textfile) is not None:
        sinks["textfile"] = lambda: _textfile(folder)
    if (url := spec.pushgateway) is not None:
        sinks["pushgateway"] = lambda: _pushgateway(url)
    if spec.otlp is not None or _environment_names_collector(environment):
        sinks["otlp"] = lambda: _otlp(spec.otlp)
    if of_run and (namespace := spec.cloudwatch_namespace) is not None:
        sinks["cloudwatch"] = lambda: _cloudwatch(namespace)
    return sinks


def _environment_names_collector(environment: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for metrics by OTLP over HTTP."""

    def of_metrics(name: str, default: str = "") -> str:
        general = environment.get(f"OTEL_EXPORTER_OTLP_{name}", default)
        return environment.get(f"OTEL_EXPORTER_OTLP_METRICS_{name}", general)

    return (
        bool(of_metrics("ENDPOINT"))
        and of_metrics("PROTOCOL", "http/protobuf") == "http/protobuf"
        and environment.get("OTEL_METRICS_EXPORTER", "otlp") == "otlp"
        and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"
    )


def _textfile(folder: str) -> Sink:
    from pipeline.metrics.prometheus import Textfile

    return Textfile(folder)


def _pushgateway(url: str) -> Sink:
    from pipeline.metrics.prometheus import Pushgateway

    return Pushgateway(url)


def _otlp(url: str | None) -> Sink:
    try:
        from pipeline.metrics.otlp import Otlp
    except ImportError as problem:
        raise SpotmillError(
            "the OpenTelemetry SDK is not installed here",
            where="metrics.otlp",
            why=str(problem),
            hint="install spotmill with its `otlp` extra",
        ) from problem
    return Otlp(url)


def _cloudwatch(namespace: str) -> Sink:
    from pipeline.metrics.cloudwatch import CloudWatch

    return CloudWatch(namespace)
