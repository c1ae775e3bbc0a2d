"""From a job and a node to its price, with the clouds' own protocols on loopback."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.errors import JobInvalid
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.pricing import own_book, quotes_of
from pipeline.spot.node import node_at_hand
from tests.doubles.ec2 import Ec2Api, Sold
from tests.doubles.imds import Imds

SPOT = Node("i-1", "g6.xlarge", "us-east-1a", "spot")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def made(**cost: object) -> JobAtHand:
        path = tmp_path / "job.yaml"
        document = {
            "name": "priced",
            "input": {"uri": "prompts/", "prompt": "question"},
            "output": {"uri": "answers/"},
            "model": {"id": "scripted://"},
            "cost": cost,
        }
        path.write_text(yaml.safe_dump(document))
        (tmp_path / "mine.yaml").write_text(
            "as_of: 2026-11-01\nsource: our contract\nmachines: {g6.xlarge: {spot: 0.2}}\n"
        )
        return open_job(str(path), "night")

    return made


def test_an_aws_node_finds_out_what_it_costs(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Imds() as imds, Ec2Api(Sold("0.291300")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        node = node_at_hand({"SPOTMILL_NOTICES": "aws", "SPOTMILL_NOTICE_ENDPOINT": imds.url})
        quotes = quotes_of(job(), node)
        first = quotes.price()
        api.pages = [[Sold("0.312000", "2026-11-20T05:30:00.000Z")]]
        second = quotes.price()
    assert first.usd_per_hour == Decimal("0.2913")
    assert first.source == "EC2 spot price history, us-east-1a, as of 2026-11-20T04:00:00Z"
    assert first.on_demand_usd_per_hour == Decimal("0.8048"), "of the shipped book"
    assert second.usd_per_hour == Decimal("0.312")


@pytest.mark.parametrize(
    ("cost", "node"),
    [
        ({"live_prices": False}, SPOT),
        ({"prices": "mine.yaml"}, SPOT),
        ({}, Node("i-1", "g6.xlarge", "us-east-1a", "on-demand")),
        ({}, Node("i-1", "g6.xlarge", "us-central1-a", "spot")),
        ({}, Node("i-1", "g6.xlarge", "unknown", "spot")),
        ({}, Node("i-1", "unknown", "us-east-1a", "spot")),
    ],
)
def test_a_market_that_cannot_help_is_not_asked(
    cost: dict[str, object], node: Node, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ec2Api(Sold("0.29")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        quotes_of(job(**cost), node).price()
        assert api.asked == []


def test_machines_that_sell_nothing_pay_no_import(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pipeline.prices.ec2", raising=False)
    quotes_of(job(), Node("here", "laptop", "unknown", "on-demand")).price()
    assert "pipeline.prices.ec2" not in sys.modules


def test_a_job_without_a_book_has_the_shipped_one(job: Any) -> None:
    here = job()
    assert own_book(here) is None
    listed = Node("i-1", "p5.48xlarge", "us-east-1a", "on-demand")
    assert quotes_of(here, listed).price().source == (
        "AWS's public on-demand list (us-east-1), as of 2026-11-09"
    )
    laptop = Node("here", "laptop", "unknown", "on-demand")
    assert quotes_of(here, laptop).price() == UNKNOWN_PRICE


def test_a_book_that_makes_no_sense_is_refused_before_anybody_is_asked(
    job: Any, tmp_path: Path
) -> None:
    here = job(prices="mine.yaml")
    (tmp_path / "mine.yaml").write_text("machines: {")
    with pytest.raises(JobInvalid):
        quotes_of(here, SPOT)
