"""`prefect deployment run 'generate/adhoc'` with a real server, a real worker, S3 and real vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipeline.core import layout
from pipeline.pools.prefect import DeploymentPool
from pipeline.stores import open_store
from tests.e2e.house import SAMPLE, job_file, published, questions, scripted, spotmill, until, write
from tests.e2e.prefect_house import PrefectHouse, prefect_house
from tests.s3 import S3Bucket, S3Server

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def house(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectHouse]:
    with prefect_house(s3_server, tmp_path_factory.mktemp("prefect")) as made:
        yield made


def sample_job_on(bucket: S3Bucket, tmp_path: Path) -> str:
    """The sample job with input, output and prices in the bucket, its models on this disk."""
    sections: dict[str, Any] = yaml.safe_load((SAMPLE / "job.yaml").read_text())
    for part in sorted((SAMPLE / "tickets").glob("*.parquet")):
        write(pq.read_table(part), f"{bucket.uri}/tickets/{part.name}", row_group_size=48)
    model = sections["model"]
    model["id"] = str(SAMPLE / "models/target-w8a8")
    model["speculative"]["model"] = str(SAMPLE / "models/draft")
    return str(
        job_file(
            tmp_path / "job.yaml",
            **sections
            | {
                "input": sections["input"] | {"uri": f"{bucket.uri}/tickets/"},
                "output": {"uri": f"{bucket.uri}/answers/"},
                "cost": {"prices": str(SAMPLE / "prices.yaml")},
                "shards": {"rows": 48},
            },
        )
    )


@pytest.mark.vllm
def test_two_worker_flow_runs_answer_every_row(
    house: PrefectHouse, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    said = house.run_adhoc(sample_job_on(s3_bucket, tmp_path), "night")
    assert "Completed" in said, said
    table = published(f"{s3_bucket.uri}/answers/", "night")
    tickets = pq.read_table(SAMPLE / "tickets")
    assert table.select(tickets.column_names).equals(tickets)
    assert table.column("error").null_count == len(table) == 384
    assert spotmill("verify", str(tmp_path / "job.yaml"), "--run-id", "night").code == 0
    flow_runs = house.flow_runs_of("worker")
    assert [run["state_name"] for run in flow_runs] == ["Completed", "Completed"]
    store = open_store(f"{s3_bucket.uri}/answers/", s3_bucket.options)
    assert len(store.list(layout.sessions_prefix("night"))) == 2


def test_a_job_that_cannot_run_fails_with_its_reason(
    house: PrefectHouse, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    path = job_file(
        tmp_path / "job.yaml",
        name="nothing",
        input={"uri": f"{s3_bucket.uri}/nothing/", "prompt": "question"},
        output={"uri": f"{s3_bucket.uri}/answers/"},
        model=scripted(),
    )
    with pytest.raises(AssertionError, match="finished in state 'Failed'"):
        house.run_adhoc(str(path), "night")
    [failed] = house.flow_runs_of("generate", "--state-type", "FAILED")
    assert "no Parquet file is there" in failed["state"]["message"]


def test_a_cancelled_supervisor_can_be_gone_on_with(
    house: PrefectHouse, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    write(questions(200), f"{s3_bucket.uri}/prompts/a.parquet")
    path = str(
        job_file(
            tmp_path / "job.yaml",
            name="questions",
            input={"uri": f"{s3_bucket.uri}/prompts/", "prompt": "question"},
            output={"uri": f"{s3_bucket.uri}/answers/"},
            model=scripted(window=4, tokens=40, step_seconds=0.02),
            shards={"rows": 50},
            chunks={"rows": 10, "seconds": 0.5},
            fleet={"workers": 2, "lease_seconds": 2},
        )
    )
    house.start_adhoc(path, "night")
    store = open_store(f"{s3_bucket.uri}/answers/", s3_bucket.options)
    until(lambda: len(store.list(layout.checkpoints_prefix("night"))) > 2, 90, "checkpoints")
    [supervisor] = house.flow_runs_of("generate", "--state-type", "RUNNING")
    house.prefect("flow-run", "cancel", supervisor["id"])
    assert "Completed" in house.run_adhoc(path, "night")
    assert spotmill("verify", path, "--run-id", "night").code == 0
    table = published(f"{s3_bucket.uri}/answers/", "night")
    assert table.column("id").to_pylist() == list(range(200))


def test_money_that_runs_short_is_an_event_and_then_a_failure_with_its_reason(
    house: PrefectHouse, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    write(questions(100), f"{s3_bucket.uri}/prompts/a.parquet")
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": f"{s3_bucket.uri}/prompts/", "prompt": "question"},
        output={"uri": f"{s3_bucket.uri}/answers/"},
        model=scripted(window=4, tokens=40, step_seconds=0.02),
        shards={"rows": 50},
        cost={
            "budget_usd": 0.0006,
            "warn_usd": 0.000001,
            "prices": str(SAMPLE / "prices.yaml"),
        },
    )
    # At 0.10 USD an hour these are 21 seconds of a worker, of which 17.5 are kept back for its end.
    with pytest.raises(AssertionError, match="finished in state 'BudgetReached'"):
        house.run_adhoc(str(path), "night")
    failed = house.flow_runs_of("generate", "--state-type", "FAILED")
    assert any("the budget of 0.0006 USD is reached" in run["state"]["message"] for run in failed)
    until(lambda: bool(house.events("spotmill.budget-warning")), 30, "an event")
    [event] = house.events("spotmill.budget-warning")
    assert event["resource"]["prefect.resource.id"] == "spotmill.run.night"
    assert event["payload"]["warn_usd"] == "0.000001"
    assert "USD are spent of a budget of 0.0006" in event["payload"]["message"]
    until(lambda: bool(house.events("spotmill.budget-reached")), 30, "the last event")
    [event] = house.events("spotmill.budget-reached")
    assert event["payload"]["budget_usd"] == "0.0006"


def test_tokens_that_became_dearer_are_an_event_that_says_why(
    house: PrefectHouse, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    write(questions(1_200), f"{s3_bucket.uri}/prompts/a.parquet")
    prices = tmp_path / "prices.yaml"
    book = "as_of: 2026-11-20\nsource: made up\nmachines:\n  laptop: {{on_demand: {}}}\n"

    def job(usd_per_hour: str, **source: str) -> str:
        prices.write_text(book.format(usd_per_hour))
        return str(
            job_file(
                tmp_path / "job.yaml",
                name="dearer",
                input={"uri": f"{s3_bucket.uri}/prompts/", "prompt": "question", **source},
                output={"uri": f"{s3_bucket.uri}/answers/"},
                model=scripted(window=64, tokens=100, step_seconds=0.02),
                shards={"rows": 200},
                # As short as the job's runs are, windows are no shorter than a lease.
                fleet={"workers": 2, "lease_seconds": 2},
                cost={"prices": str(prices)},
            )
        )

    cheap = job("0.10", where="id < 200")
    said = spotmill("run", cheap, "--run-id", "then", "--no-prefect", environment=house.environment)
    assert said.code == 0, said.stderr
    assert "Completed" in house.run_adhoc(job("0.50"), "now")
    until(lambda: bool(house.events("spotmill.cost-jump")), 30, "an event")
    [event] = house.events("spotmill.cost-jump")
    assert event["resource"]["prefect.resource.id"] == "spotmill.run.now"
    assert event["payload"]["cause"] == "dearer price"
    assert event["payload"]["compared_with"] == "of earlier runs"
    # The run before had two workers on this one machine, which shared its price.
    assert "0.0500 USD an hour before, 0.5000 now" in event["payload"]["message"]


def test_a_worker_whose_flow_run_was_deleted_has_ended(house: PrefectHouse) -> None:
    api = house.environment["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: api}):
        pool = DeploymentPool("worker/spot", {"job": "nowhere.yaml", "run_id": "r"}, frozenset())
        for worker_id in ("w-deleted", "w-kept"):
            pool.start(worker_id)
        with get_client(sync_client=True) as client:
            client.delete_flow_run(pool._live["w-deleted"])
        ends = dict(pool.ended())
        assert ends.pop("w-deleted").problem == "its flow run was deleted"
        # Of no job, this one fails by itself.
        until(lambda: ends.update(pool.ended()) or not pool.running(), 60, "the other one's end")
        assert "nowhere.yaml" in str(ends["w-kept"].problem)
        pool.stop()
