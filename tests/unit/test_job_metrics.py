"""What a job may say of metrics, and what it may not."""

from __future__ import annotations

import pytest

from pipeline.job import JobSpec
from tests.unit.test_job_file import MINIMAL, parse, refusal


def with_metrics(line: str) -> str:
    return f"{MINIMAL}metrics:\n  {line}\n"


def test_nobody_is_told_unless_named() -> None:
    spec = parse(MINIMAL).metrics
    assert (spec.textfile, spec.pushgateway, spec.otlp, spec.cloudwatch_namespace) == (None,) * 4
    assert spec.seconds == 15


def test_each_listener_can_be_named() -> None:
    spec = parse(
        with_metrics(
            "{textfile: /var/prom, pushgateway: 'http://g:9091', otlp: 'https://c:4318', "
            "cloudwatch_namespace: spotmill/prod, seconds: 30}"
        )
    ).metrics
    assert spec.textfile == "/var/prom"
    assert spec.pushgateway == "http://g:9091"
    assert spec.otlp == "https://c:4318"
    assert spec.cloudwatch_namespace == "spotmill/prod"
    assert spec.seconds == 30


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("textfiles: /x", "unknown key metrics.textfiles; did you mean textfile?"),
        ("textfile: prom", "'prom' is no absolute path"),
        ("pushgateway: gateway:9091", "is no URL such as http://"),
        ("otlp: grpc://collector:4317", "is no URL such as http://"),
        ("pushgateway: http://me:hush@gateway", "a user name or password has no place here"),
        ("otlp: http://me:hush@collector", "a user name or password has no place here"),
        ("otlp: 'http://c/v1/metrics?key=hush'", "set OTEL_EXPORTER_OTLP_HEADERS"),
        ("otlp: 'http://c/v1/metrics#hush'", "what follows a `?` or `#` has no place here"),
        ("pushgateway: 'http://gateway/?token=hush'", "know its clients by their network"),
        ("otlp: http://collector:99999", "is no URL such as http://"),
        ("cloudwatch_namespace: AWS/EC2", "are Amazon's own"),
        ("cloudwatch_namespace: a b", "should match pattern"),
        ("seconds: 0.1", "greater than or equal to 5"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(line: str, said: str) -> None:
    problem = refusal(with_metrics(line))
    assert said in problem.what
    assert problem.where == "/jobs/job.yaml, line 6"
    assert "hush" not in str(problem)


def test_a_run_can_be_gone_on_with_whoever_listens() -> None:
    one, other = parse(MINIMAL), parse(with_metrics("textfile: /var/prom"))
    assert one.settings_fingerprint() == other.settings_fingerprint()


def test_a_run_of_before_there_were_metrics_can_be_gone_on_with() -> None:
    document = parse(MINIMAL).model_dump(mode="json")
    del document["metrics"]
    assert JobSpec.model_validate(document) == parse(MINIMAL)
