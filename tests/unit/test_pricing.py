"""From a job and a node to its price, with the clouds' own protocols on loopback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.at_hand import JobAtHand, open_job
from pipeline.core.errors import JobInvalid
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.prices.ec2_access import is_amazons
from pipeline.pricing import own_book, quotes_of
from pipeline.spot.node import node_at_hand
from tests.doubles.ec2 import Ec2Api, Sold, key_of
from tests.doubles.imds import Imds

SPOT = Node("i-1", "g6.xlarge", "us-east-1a", "spot")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)

    def made(storage: dict[str, str] | None = None, **cost: object) -> JobAtHand:
        path = tmp_path / "job.yaml"
        document = {
            "name": "priced",
            "input": {"uri": "prompts/", "prompt": "question"},
            "output": {"uri": "answers/"},
            "model": {"id": "scripted://"},
            "cost": cost,
            "storage_options": storage or {},
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


# Whose keys EC2 is shown.


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imds]:
    """The metadata service of a machine that has a role."""
    with Imds() as imds:
        imds.give_role("AKIDOFTHEROLE")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url)
        monkeypatch.setenv("SPOTMILL_NOTICES", "aws")
        monkeypatch.setenv("SPOTMILL_NOTICE_ENDPOINT", imds.url)
        yield imds


@pytest.mark.parametrize(
    ("environment", "storage"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, {}),
        ({"AWS_ENDPOINT_URL_S3": "https://storage.example.com"}, {}),
        ({}, {"endpoint_url": "https://account.r2.cloudflarestorage.com"}),
    ],
)
def test_another_stores_keys_are_not_shown_to_amazon(
    job: Any,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    storage: dict[str, str],
    role: Imds,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Ec2Api(Sold("0.2913")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        price = quotes_of(job(storage), SPOT).price()
        assert [key_of(asked) for asked in api.asked] == ["AKIDOFTHEROLE"]
        assert price.usd_per_hour == Decimal("0.2913")
        # Without a role, nobody is asked at all.
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        assert quotes_of(job(storage), SPOT).price().source != price.source
        assert len(api.asked) == 1
    assert "no AWS credentials and no role of this machine's" in caplog.text


def test_keys_that_are_refused_leave_it_to_the_machines_role(
    job: Any, monkeypatch: pytest.MonkeyPatch, role: Imds
) -> None:
    with Ec2Api(Sold("0.2913")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        api.known_keys = {"AKIDOFTHEROLE"}
        quotes = quotes_of(job(), SPOT)
        assert quotes.price().usd_per_hour == Decimal("0.2913")
        assert quotes.price().usd_per_hour == Decimal("0.2913")
        keys = [key_of(asked) for asked in api.asked]
    assert keys == ["AKIDEXAMPLE", "AKIDOFTHEROLE", "AKIDOFTHEROLE"], "refused once is enough"


def test_a_role_that_may_not_ask_either_leaves_the_keys_that_somebody_chose(
    job: Any, monkeypatch: pytest.MonkeyPatch, role: Imds, caplog: pytest.LogCaptureFixture
) -> None:
    with Ec2Api(Sold("0.2913")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        api.known_keys = set()
        quotes = quotes_of(job(), SPOT)
        quotes.price()
        api.known_keys = {"AKIDEXAMPLE"}
        assert quotes.price().usd_per_hour == Decimal("0.2913")
    assert caplog.text.count("EC2 tells no spot price") == 1


def test_a_zone_is_asked_for_by_its_id_since_names_are_each_accounts_own(
    job: Any, monkeypatch: pytest.MonkeyPatch, role: Imds
) -> None:
    # In the account of the keys, the zone of this machine has another name.
    with Ec2Api(Sold("0.2913", zone="us-east-1c"), Sold("0.4", zone_id="use1-az6")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        price = quotes_of(job(), SPOT).price()
        [query] = api.queries
    assert query["AvailabilityZoneId"] == "use1-az4"
    assert "AvailabilityZone" not in query
    assert price.usd_per_hour == Decimal("0.2913")
    assert price.source.startswith("EC2 spot price history, us-east-1a")


def test_a_zone_that_was_told_is_not_the_one_that_the_metadata_service_means(
    job: Any, monkeypatch: pytest.MonkeyPatch, role: Imds
) -> None:
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "us-east-1b")
    with Ec2Api(Sold("0.2913", zone="us-east-1b")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        node = replace(SPOT, zone="us-east-1b")
        assert quotes_of(job(), node).price().usd_per_hour == Decimal("0.2913")


@pytest.mark.parametrize(
    ("url", "amazons"),
    [
        (None, True),
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("http://127.0.0.1:9000", False),
        ("https://storage.googleapis.com", False),
        ("https://notamazonaws.com", False),
        ("https://amazonaws.com.example.org", False),
    ],
)
def test_whose_store_it_is(url: str | None, amazons: bool) -> None:
    assert is_amazons(url) is amazons


def test_a_market_that_quotes_yuan_is_not_asked(
    job: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Ec2Api(Sold("2.1", zone="cn-north-1a")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        quotes = quotes_of(job(), replace(SPOT, zone="cn-north-1a"))
        assert [quotes.price() for _ in range(3)] == [UNKNOWN_PRICE] * 3
        assert api.asked == []
    [told] = caplog.records
    assert "yuan" in told.getMessage()


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


def test_a_book_of_ones_own_that_has_no_price_of_this_node_says_so_once(
    job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    here = job(prices="mine.yaml", live_prices=False)
    quotes = quotes_of(here, replace(SPOT, instance_type="g6.2xlarge"))
    for _ in range(3):
        quotes.price()
    [told] = caplog.records
    assert told.getMessage().endswith(
        "mine.yaml has no price of g6.2xlarge (spot) in us-east-1a, so others' prices count"
    )
    caplog.clear()
    quotes_of(here, SPOT).price()
    assert not caplog.records


def test_a_book_that_makes_no_sense_is_refused_before_anybody_is_asked(
    job: Any, tmp_path: Path
) -> None:
    here = job(prices="mine.yaml")
    (tmp_path / "mine.yaml").write_text("machines: {")
    with pytest.raises(JobInvalid):
        quotes_of(here, SPOT)
