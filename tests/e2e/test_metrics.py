"""A run tells what its books say, and goes on whoever does not listen."""

from __future__ import annotations

import json
import logging
import time
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import cli, wiring
from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.money import Buckets, NodePrice
from pipeline.spot.signals import NoNotice
from pipeline.telling import telling_worker
from tests.doubles.server import Answer, Asked, MetadataDouble
from tests.e2e.house import job_file, questions, write
from tests.unit.test_metrics_figures import session

BOOK = """\
as_of: "2026-11-20"
source: made up
machines:
  g6.xlarge: {spot: "0.36", on_demand: "0.98"}
"""


class Gateway(MetadataDouble):
    def answer(self, asked: Asked) -> Answer:
        # The collector is here too, and refuses.
        return Answer(400 if asked.method == "POST" else 200)


def read(text: str) -> dict[str, float]:
    """By name, and by the label that is not the same everywhere."""
    everywhere = {"Project", "Team", "Environment", "ModelID"}
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            own = {k: v for k, v in sample.labels.items() if k not in everywhere}
            own = {k: v for k, v in own.items() if not k.startswith("gen_ai_")}
            own = {k: v for k, v in own.items() if not k.endswith(("_run_id", "_worker_id"))}
            values[" ".join([sample.name, *own.values()])] = sample.value
    return values


def test_a_run_tells_what_its_books_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "g6.xlarge")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "spot")
    write(questions(60), str(tmp_path / "prompts" / "a.parquet"))
    (tmp_path / "prices.yaml").write_text(BOOK)
    with Gateway() as gateway:
        job = job_file(
            tmp_path / "job.yaml",
            name="questions",
            input={"uri": "prompts/", "prompt": "question"},
            output={"uri": "answers/"},
            model={"id": "scripted://?window=8&tokens=5"},
            shards={"rows": 20},
            fleet={"lease_seconds": 2},
            cost={"prices": "prices.yaml"},
            tags={"Project": "search"},
            metrics={
                "textfile": str(tmp_path / "prom"),
                "pushgateway": gateway.url,
                "otlp": gateway.url,
                "seconds": 5,
            },
        )
        here = open_job(str(job), "night")
        plan = wiring.plan(here)
        wiring.supervise(here, plan, wiring.local_pool(here, plan, 1), NoNotice(), 1)
        manifest = wiring.close_books(here, plan)

    assert [path.name for path in (tmp_path / "prom").iterdir()] == ["spotmill-night.prom"]
    text = (tmp_path / "prom" / "spotmill-night.prom").read_text()
    told = read(text)
    assert 'Project="search"' in text
    assert 'Team="unknown"' in text
    tokens, cost = manifest["tokens"], manifest["cost"]
    usage = "gen_ai_client_inference_usage"
    assert told[f"{usage}_output_tokens_total"] == tokens["output"] > 0
    assert told[f"{usage}_input_tokens_total"] == tokens["input"] > 0
    assert told["spotmill_rows_published_total"] == 60
    assert told["spotmill_queue_rows"] == 0
    assert told["spotmill_complete"] == 1
    assert told["spotmill_workers ended"] == 1
    assert Decimal(cost["total"]) > 0
    assert told["spotmill_cost_total"] == float(cost["total"])
    per_1k = "spotmill_cost_per_1k_output_tokens"
    assert told[per_1k] == float(cost["per_1k_output_tokens"])
    assert 0 < told["spotmill_goodput_ratio"] <= 1
    assert 0 < told["spotmill_goodput_useful_ratio"] < 1

    run = "/metrics/job/spotmill/spotmill_run_id/night"
    worker = f"{run}/spotmill_worker_id/{manifest['workers'][0]['worker_id']}"
    pushed = [(asked.method, asked.path) for asked in gateway.asked]
    assert {("PUT", run), ("PUT", worker), ("DELETE", worker)} <= set(pushed)
    assert pushed.index(("DELETE", worker)) > pushed.index(("PUT", worker))
    last = next(a.body.decode() for a in reversed(gateway.asked) if a.path == run)
    assert read(last) == told
    beat = next(a.body.decode() for a in reversed(gateway.asked) if a.path == worker and a.body)
    assert read(beat)["spotmill_worker_rows_total"] == 60

    said = [r.message for r in caplog.records if r.name == "spotmill.metrics"]
    assert said
    assert all(message.startswith("metrics, otlp: ") for message in said)
    assert len(said) <= 2, "once while supervising, once at the end"
    assert [r for r in caplog.records if r.name.startswith("opentelemetry")] == []
    assert logging.getLogger("opentelemetry").level == logging.NOTSET


def told_in_a_folder(place: Path) -> JobAtHand:
    """A job of ten questions whose figures go to text files in `prom`."""
    write(questions(10), str(place / "prompts" / "a.parquet"))
    job = job_file(
        place / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model={"id": "scripted://?window=8&tokens=5"},
        metrics={"textfile": str(place / "prom")},
    )
    return open_job(str(job), "night")


def test_nobody_hears_of_a_price_that_nobody_knows_nor_for_ever_of_a_worker_that_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SPOTMILL_INSTANCE_TYPE", "SPOTMILL_INSTANCE_LIFECYCLE"):
        monkeypatch.delenv(name, raising=False)
    here = told_in_a_folder(tmp_path)
    plan = wiring.plan(here)
    vanished = tmp_path / "prom" / "spotmill-night@w-gone.prom"
    # What it beat last is all that is left of it, in the store and in its file.
    here.ledger.sessions.beat(session("w-gone", Buckets(boot=10**6), NodePrice(None, "unknown")))
    vanished.parent.mkdir()
    vanished.write_text("spotmill_worker_rows_total 3\n")

    wiring.run_worker(here, NoNotice(), "w-1")
    assert vanished.exists()
    wiring.close_books(here, plan)

    assert [path.name for path in (tmp_path / "prom").iterdir()] == ["spotmill-night.prom"]
    told = read((tmp_path / "prom" / "spotmill-night.prom").read_text())
    assert told["spotmill_rows_published_total"] == 10
    assert told["spotmill_workers work"] == 1
    assert told["spotmill_complete"] == 1
    assert [name for name in told if "cost" in name] == []


def test_books_that_were_closed_and_not_told_of_are_told_by_whoever_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = told_in_a_folder(tmp_path)
    plan = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), "w-1")
    closed = wiring.close_books(here, plan)
    file = tmp_path / "prom" / "spotmill-night.prom"
    told = file.read_text()
    # As if its process had died before.
    file.unlink()
    for _ in range(2):
        assert cli.resume(here.uri, "night", no_prefect=True, as_json=True) == 0
        assert file.read_text() == told
        assert json.loads(capsys.readouterr().out)["finished_at"] == closed["finished_at"]


def test_a_gateway_that_hangs_keeps_a_worker_that_beats_no_more_for_a_second(
    tmp_path: Path,
) -> None:
    with Gateway() as gateway:
        gateway.trouble = "slow"
        job = job_file(
            tmp_path / "job.yaml",
            name="questions",
            input={"uri": "prompts/", "prompt": "question"},
            output={"uri": "answers/"},
            model={"id": "scripted://?window=8&tokens=5"},
            metrics={"pushgateway": gateway.url},
        )
        with telling_worker(open_job(str(job), "night"), "w-1") as show:
            show(session("w-1"))
            left = time.monotonic()
        assert time.monotonic() - left < 3
