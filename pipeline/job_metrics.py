"""What a job may say of who is told its figures while it runs."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from pipeline.job_section import Section, without_secrets

_INSTEAD = {
    "otlp": "set OTEL_EXPORTER_OTLP_HEADERS where the workers run",
    "pushgateway": "a gateway can only know its clients by their network",
}


class MetricsSpec(Section):
    """Nobody is told unless somebody is named. Answers, plan and bills do not depend on it."""

    textfile: str | None = Field(
        None, description="node_exporter's folder for text files, on each machine of the run"
    )
    pushgateway: str | None = Field(None, description="a Prometheus pushgateway's URL")
    otlp: str | None = Field(
        None,
        description="an OpenTelemetry collector's URL (OTLP over HTTP); headers and certificates "
        "come from the usual OTEL_EXPORTER_OTLP_* variables",
    )
    cloudwatch_namespace: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._/#:-]{1,255}$", description="of CostPer1kOutputTokens"
    )
    seconds: float = Field(15.0, ge=5.0, description="between two updates")

    @field_validator("textfile")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError(
                f"{value!r} is no absolute path, and each machine of the run writes there itself"
            )
        return value

    @field_validator("pushgateway", "otlp")
    @classmethod
    def _address(cls, value: str | None, field: ValidationInfo) -> str | None:
        if value is None:
            return None
        without_secrets(value, _INSTEAD[str(field.field_name)])
        try:
            parts = urlsplit(value)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(f"{value!r} is no URL such as http://host:9091")
        return value

    @field_validator("cloudwatch_namespace")
    @classmethod
    def _own_namespace(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("AWS/"):
            raise ValueError("namespaces that begin with AWS/ are Amazon's own")
        return value
