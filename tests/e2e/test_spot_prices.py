"""From EC2's answers to a run's books: what a spot market did meanwhile is in the bill."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.manifest import charged_usd
from pipeline.core.money import decimal_of
from pipeline.core.spans import charges
from pipeline.prices import watch
from pipeline.proving import verify
from pipeline.spot.signals import NoNotice
from tests.doubles.ec2 import Ec2Api, Sold
from tests.doubles.imds import Imds
from tests.doubles.server import until_told
from tests.e2e.house import job_file, questions, scripted, write

RUN = "night"
UNLISTED = "g9.xlarge"
"""On the market, and in no list."""


@pytest.fixture
def job(tmp_path: Path) -> str:
    write(questions(48), str(tmp_path / "prompts/a.parquet"))
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model=scripted(window=8, tokens=30, step_seconds=0.02),
        chunks={"rows": 8, "seconds": 0.2},
    )
    return str(path)


@pytest.fixture
def imds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imds]:
    with Imds() as service:
        monkeypatch.setenv("SPOTMILL_NOTICES", "aws")
        monkeypatch.setenv("SPOTMILL_NOTICE_ENDPOINT", service.url)
        yield service


@pytest.fixture
def market(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ec2Api]:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with Ec2Api(Sold("0.300000")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
        yield api


def test_a_market_that_refuses_once_leaves_no_second_without_a_price(
    job: str, imds: Imds, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AGAIN_SECONDS", 0.1)
    imds.about["instance-type"] = UNLISTED
    market.pages = [[Sold("0.300000", kind=UNLISTED)]]
    market.refusal = "RequestLimitExceeded"

    def recover() -> None:
        # The SDK asks again by itself, once.
        until_told(lambda: len(market.asked) >= 2, 30, "refused")
        market.refusal = None

    mending = threading.Thread(target=recover)
    mending.start()
    here = open_job(job, RUN)
    plan = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), "w1")
    mending.join()
    manifest = wiring.close_books(here, plan)
    [worker] = manifest["workers"]
    assert Decimal(worker["price_per_hour"]) == Decimal("0.3")
    assert "prices" not in worker, "all of its life had this price"
    assert manifest["cost"]["total"] is not None


def test_a_market_that_hangs_holds_up_no_end(
    job: str, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.05)
    here = open_job(job, RUN)
    wiring.plan(here)

    def hang() -> None:
        until_told(lambda: len(market.asked) >= 1, 30, "asked")
        market.trouble = "slow"

    hanging = threading.Thread(target=hang)
    hanging.start()
    wiring.run_worker(here, NoNotice(), "w1")
    hanging.join()
    assert len(market.asked) >= 2, "somebody hangs"
    spent = here.ledger.sessions.all()["w1"].buckets.seconds()
    assert spent["idle"] + spent["drain"] < 1.5, "it waited for a price"


def test_a_price_that_moves_while_a_worker_works_is_in_its_bill(
    job: str, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ASK_SECONDS", 0.1)
    here = open_job(job, RUN)
    plan = wiring.plan(here)

    def move() -> None:
        until_told(lambda: len(market.asked) >= 4, 30, "asked again and again")
        market.pages = [[Sold("0.450000", "2026-11-20T05:00:00.000Z")]]

    moving = threading.Thread(target=move)
    moving.start()
    wiring.run_worker(here, NoNotice(), "w1")
    moving.join()
    manifest = wiring.close_books(here, plan)
    [shard] = here.ledger.shard_manifests([0])
    [attempt] = shard["attempts"]
    told = {price.source: (price, spent) for price, spent in charges(attempt)}
    before, after = (
        f"EC2 spot price history, us-east-1a, as of 2026-11-20T0{hour}:00:00Z" for hour in (4, 5)
    )
    assert set(told) == {before, after}
    assert told[before][0].usd_per_hour == Decimal("0.3")
    assert told[after][0].usd_per_hour == Decimal("0.45")
    assert all(spent.useful > 0 for _, spent in told.values()), "it worked at both prices"
    assert all(price.on_demand_usd_per_hour == Decimal("0.8048") for price, _ in told.values())
    listed = {price.on_demand_source for price, _ in told.values()}
    assert len(listed) == 1
    assert "as of 20" in listed.pop(), "whose price it is and of what time"
    assert charged_usd(charges(attempt)) == decimal_of(shard["cost"]["total"])
    assert manifest["workers"][0]["node"]["instance_id"] == "i-0b22a22eec53b9321"
    assert verify(here)["verified"] is True
