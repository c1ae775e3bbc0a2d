"""What Prometheus reads from a text file, and what a pushgateway is sent, on a real socket."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics.figures import Distribution, Figure, Told
from pipeline.metrics.meanings import MEANINGS
from pipeline.metrics.prometheus import Page, Pushgateway, Textfile, prometheus_name
from tests.doubles.server import Answer, Asked, MetadataDouble
from tests.unit.telling import DURATION, told

COST = Figure("spotmill.cost.per_1k_output_tokens", Decimal("0.000123456789"))


def everything() -> Told:
    """An update with every figure there is."""
    spread = Distribution((1.0, 2.5), (1, 0, 2), 12.5)
    return told(
        *(
            Figure(name, spread if meaning.kind == "histogram" else 3)
            for name, meaning in MEANINGS.items()
        )
    )


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_a_text_file_is_read_back_as_it_was_told(tmp_path: Path) -> None:
    decoded = Figure("spotmill.worker.tokens.decoded", 12_345_678_901)
    wasted = Figure("spotmill.worker.seconds", 1.5, {"spotmill.bucket": "wasted"})
    Textfile(str(tmp_path / "prom")).tell(told(COST, decoded, wasted, DURATION, worker_id="w1"))
    (file,) = (tmp_path / "prom").iterdir()
    assert file.name == "spotmill-night@w1.prom"
    read = families(file.read_text())
    tags = {"Project": "search", "Team": "data", "Environment": "prod", "ModelID": "tiny"}
    who = tags | {"spotmill_run_id": "night", "spotmill_worker_id": "w1"}
    (cost,) = read["spotmill_cost_per_1k_output_tokens"].samples
    assert (cost.value, cost.labels) == (0.000123456789, who)
    (tokens,) = read["spotmill_worker_tokens_decoded"].samples
    assert (tokens.name, tokens.value) == ("spotmill_worker_tokens_decoded_total", 12345678901.0)
    assert read["spotmill_worker_tokens_decoded"].type == "counter"
    (seconds,) = read["spotmill_worker_seconds"].samples
    assert read["spotmill_worker_seconds"].type == "gauge", "wasted time was useful before"
    assert (seconds.value, seconds.labels["spotmill_bucket"]) == (1.5, "wasted")
    duration = read["gen_ai_client_inference_duration_seconds"]
    assert duration.type == "histogram"
    found = {(s.name.rpartition("_")[2], s.labels.get("le")): s.value for s in duration.samples}
    assert found == {
        ("bucket", "0.5"): 3,
        ("bucket", "2.0"): 3,
        ("bucket", "+Inf"): 4,
        ("count", None): 4,
        ("sum", None): 7.25,
    }
    assert {s.labels["gen_ai_request_model"] for s in duration.samples} == {"tiny-llama"}
    assert {s.labels["gen_ai_operation_name"] for s in duration.samples} == {"text_completion"}


def test_every_figure_has_a_name_of_its_own_in_prometheus() -> None:
    read = families(generate_latest(Page(everything())).decode())
    assert len(read) == len(MEANINGS)
    kinds = {family.type for family in read.values()}
    assert kinds == {"counter", "gauge", "histogram"}, "and none is untyped"


def test_names_are_those_that_a_collector_would_give_the_same_figures() -> None:
    """By the rules that its exporters and Prometheus's own OTLP endpoint have in common."""
    found = {name: prometheus_name(name, meaning) for name, meaning in MEANINGS.items()}
    expected = {
        "spotmill.cost": "spotmill_cost",
        "spotmill.cost.per_1k_output_tokens": "spotmill_cost_per_1k_output_tokens",
        "spotmill.worker.seconds": "spotmill_worker_seconds",
        "spotmill.worker.useful": "spotmill_worker_useful_ratio",
        "spotmill.goodput": "spotmill_goodput_ratio",
        "spotmill.goodput.rate": "spotmill_goodput_rate_per_second",
        "spotmill.complete": "spotmill_complete",
        "spotmill.preemptions": "spotmill_preemptions",
        "gen_ai.client.inference.duration": "gen_ai_client_inference_duration_seconds",
        "gen_ai.client.inference.usage.cache_read.input_tokens": (
            "gen_ai_client_inference_usage_cache_read_input_tokens"
        ),
        "gen_ai.server.time_to_first_token": "gen_ai_server_time_to_first_token_seconds",
        "hw.gpu.memory.utilization": "hw_gpu_memory_utilization_ratio",
    }
    assert {name: found[name] for name in expected} == expected
    of_braces = [name for name, meaning in MEANINGS.items() if meaning.unit.endswith("}")]
    assert all(found[name] == name.replace(".", "_") for name in of_braces)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_minds_nothing_but_the_capitals_of_a_tag() -> None:
    # Tags are spelled alike on manifests, bills and metrics, so that they can be joined.
    page = generate_latest(Page(everything())).replace(b"ModelID=", b"model_id=")
    said = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607
        input=page,
        capture_output=True,
        timeout=30,
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    sink, over, seen = Textfile(str(tmp_path)), threading.Event(), set()
    sink.tell(everything())
    file = tmp_path / "spotmill-night.prom"

    def read() -> None:
        while not over.is_set():
            seen.add(len(families(file.read_text())))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        sink.tell(everything())
    over.set()
    reader.join()
    assert seen == {len(MEANINGS)}
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "nothing is left beside it"


def test_a_worker_that_is_gone_leaves_no_file(tmp_path: Path) -> None:
    sink = Textfile(str(tmp_path))
    sink.tell(told(COST, worker_id="w1"))
    sink.tell(told(COST))
    sink.forget("night", "w1")
    sink.forget("night", "never-there")
    assert [path.name for path in tmp_path.iterdir()] == ["spotmill-night.prom"]


class Gateway(MetadataDouble):
    def answer(self, asked: Asked) -> Answer:
        return Answer(200 if asked.method == "PUT" else 202)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as double:
        yield double


def test_a_gateway_gets_a_group_for_the_run_and_one_for_each_worker(gateway: Gateway) -> None:
    sink = Pushgateway(gateway.url)
    sink.tell(told(COST))
    sink.tell(told(DURATION, worker_id="w1"))
    sink.forget("night", "w1")
    run = "/metrics/job/spotmill/spotmill_run_id/night"
    assert [(asked.method, asked.path) for asked in gateway.asked] == [
        ("PUT", run),
        ("PUT", f"{run}/spotmill_worker_id/w1"),
        ("DELETE", f"{run}/spotmill_worker_id/w1"),
    ]
    first, second, _ = (families(asked.body.decode()) for asked in gateway.asked)
    assert set(first) == {"spotmill_cost_per_1k_output_tokens"}
    assert set(second) == {"gen_ai_client_inference_duration_seconds"}


def test_a_gateway_in_trouble_raises(gateway: Gateway) -> None:
    gateway.trouble = "503"
    with pytest.raises(OSError, match="503"):
        Pushgateway(gateway.url).tell(told(COST))
