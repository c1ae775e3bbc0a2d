"""From EC2's answers to a run's books: what a spot market did meanwhile is in the bill."""

from __future__ import annotations

import threading
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.manifest import attempt_cost
from pipeline.core.money import decimal_of
from pipeline.core.spans import charges
from pipeline.proving import verify
from pipeline.spot.signals import NoNotice
from pipeline.worker_settings import WorkerSettings
from tests.doubles.ec2 import Ec2Api, Sold
from tests.doubles.imds import Imds
from tests.doubles.server import until_told
from tests.e2e.house import job_file, questions, scripted, write

RUN = "night"


def test_a_price_that_moves_while_a_worker_works_is_in_its_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(questions(48), str(tmp_path / "prompts/a.parquet"))
    path = job_file(
        tmp_path / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model=scripted(window=8, tokens=30, step_seconds=0.02),
        chunks={"rows": 8, "seconds": 0.2},
    )
    with Imds() as imds, Ec2Api(Sold("0.300000")) as api:
        monkeypatch.setenv("SPOTMILL_NOTICES", "aws")
        monkeypatch.setenv("SPOTMILL_NOTICE_ENDPOINT", imds.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
        monkeypatch.setattr(wiring, "WorkerSettings", partial(WorkerSettings, price_seconds=0.1))
        here = open_job(str(path), RUN)
        plan = wiring.plan(here)

        def move() -> None:
            until_told(lambda: len(api.asked) >= 4, 30, "asked again and again")
            api.pages = [[Sold("0.450000", "2026-11-20T05:00:00.000Z")]]

        market = threading.Thread(target=move)
        market.start()
        wiring.run_worker(here, NoNotice(), "w1")
        market.join()
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
    assert attempt_cost(attempt) == decimal_of(shard["cost"]["total"])
    assert manifest["workers"][0]["node"]["instance_id"] == "i-0b22a22eec53b9321"
    assert verify(here)["verified"] is True
