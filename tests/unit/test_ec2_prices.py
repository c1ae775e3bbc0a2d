"""EC2's spot prices, against its own protocol on loopback."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from decimal import Decimal

import pytest

from pipeline.core.money import Node
from pipeline.prices.book import Rate
from pipeline.prices.ec2 import Ec2SpotPrices
from pipeline.prices.zones import is_zone_of, region_of
from tests.doubles.ec2 import Ec2Api, Sold
from tests.doubles.server import Trouble

NODE = Node("i-1", "g6.xlarge", "us-east-1a", "spot")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"):
        monkeypatch.delenv(name, raising=False)


def market(api: Ec2Api, answer_seconds: float = 2.0) -> Ec2SpotPrices:
    return Ec2SpotPrices("us-east-1", api.url, answer_seconds)


def test_a_price_comes_with_its_zone_and_since_when() -> None:
    with Ec2Api(Sold("0.291300")) as api:
        rate = market(api).spot(NODE)
    assert rate == Rate(
        Decimal("0.2913"), "EC2 spot price history, us-east-1a, as of 2026-11-20T04:00:00Z"
    )
    [query] = api.queries
    assert query["InstanceType.1"] == "g6.xlarge"
    assert query["AvailabilityZone"] == "us-east-1a"
    assert query["ProductDescription.1"] == "Linux/UNIX"
    assert abs(time.time() - datetime.fromisoformat(query["StartTime"]).timestamp()) < 60, "of now"
    assert "/us-east-1/ec2/aws4_request" in api.asked[0].headers["authorization"]


def test_the_newest_of_several_is_the_price() -> None:
    with Ec2Api(
        Sold("0.31", "2026-11-20T02:00:00.000Z"),
        Sold("0.29", "2026-11-20T04:10:00.000Z"),
        Sold("0.33", "2026-11-19T23:00:00.000Z"),
    ) as api:
        rate = market(api).spot(NODE)
    assert rate is not None
    assert rate.usd_per_hour == Decimal("0.29")


def test_an_answer_may_begin_with_an_empty_page() -> None:
    with Ec2Api() as api:
        api.pages = [[], [Sold("0.29")]]
        rate = market(api).spot(NODE)
    assert rate is not None
    assert len(api.queries) == 2


def test_a_price_that_moves_is_another_and_one_that_stays_is_the_same() -> None:
    with Ec2Api(Sold("0.29")) as api:
        prices = market(api)
        first, second = prices.spot(NODE), prices.spot(NODE)
        api.pages = [[Sold("0.35", "2026-11-20T05:00:00.000Z")]]
        third = prices.spot(NODE)
    assert first is not None
    assert first == second, "no new account for a price that has not moved"
    assert third == Rate(
        Decimal("0.35"), "EC2 spot price history, us-east-1a, as of 2026-11-20T05:00:00Z"
    )


@pytest.mark.parametrize("price", ["0", "0.000000", "-1", "NaN", "Infinity", "", "cheap"])
def test_nonsense_is_no_price_and_above_all_not_nothing(price: str) -> None:
    with Ec2Api(Sold(price)) as api:
        assert market(api).spot(NODE) is None


@pytest.mark.parametrize(
    "sold",
    [
        Sold("0.1", kind="g6.2xlarge"),
        Sold("0.1", zone="us-east-1b"),
        Sold("0.1", product="Windows"),
    ],
)
def test_another_machines_price_is_not_taken(sold: Sold) -> None:
    with Ec2Api(sold) as api:
        api.heeds_filters = False
        assert market(api).spot(NODE) is None


@pytest.mark.parametrize("trouble", ["500", "503", "garbage", "hang up", "slow"])
def test_trouble_is_no_price_in_a_few_seconds_and_passes(trouble: Trouble) -> None:
    with Ec2Api(Sold("0.29")) as api:
        prices = market(api, answer_seconds=0.5)
        api.trouble = trouble
        began = time.monotonic()
        assert prices.spot(NODE) is None
        assert time.monotonic() - began < 5.0
        api.trouble = None
        assert prices.spot(NODE) is not None


def test_each_kind_of_failure_is_told_once_and_without_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Ec2Api() as api, caplog.at_level(logging.WARNING, "spotmill.prices"):
        prices = market(api)
        for refusal in ("UnauthorizedOperation", "UnauthorizedOperation", "RequestExpired"):
            api.refusal = refusal
            assert prices.spot(NODE) is None
        api.refusal = None
        for _ in range(3):
            assert prices.spot(NODE) is None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3, told
    assert "UnauthorizedOperation" in told[0]
    assert "RequestExpired" in told[1]
    assert "no spot price of g6.xlarge in us-east-1a" in told[2]
    assert "a-secret-of-this-test" not in caplog.text


def test_without_credentials_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with Ec2Api(Sold("0.29")) as api:
        assert market(api).spot(NODE) is None
        assert api.asked == []
    assert "no AWS credentials" in caplog.text


def test_where_objects_are_stored_is_not_where_machines_are_sold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Ec2Api(Sold("0.29")) as api, Ec2Api(Sold("0.01")) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        rate = Ec2SpotPrices("us-east-1").spot(NODE)
        assert store.asked == []
    assert rate is not None
    assert rate.usd_per_hour == Decimal("0.29")


def test_by_itself_it_asks_amazon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    client = Ec2SpotPrices("eu-west-1")._connect()
    assert client.meta.endpoint_url == "https://ec2.eu-west-1.amazonaws.com"
    client.close()


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-east-1a", "us-east-1"),
        ("ap-southeast-2c", "ap-southeast-2"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("us-east-1-wl1-bos-wlz-1", "us-east-1"),
        ("eusc-de-east-1a", "eusc-de-east-1"),
        ("us-east-1", None),
        ("us-central1-a", None),
        ("europe-west4-b", None),
        ("eastus-1", None),
        ("westeurope", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_the_region_of_a_zone(zone: str, region: str | None) -> None:
    assert region_of(zone) == region


@pytest.mark.parametrize(
    ("zone", "region", "lies_in_it"),
    [
        ("us-east-1a", "us-east-1", True),
        ("us-central1-f", "us-central1", True),
        ("eastus-3", "eastus", True),
        ("eastus", "eastus", True),
        ("eastus2-1", "eastus", False),
        ("us-east-1-bos-1a", "us-east-1", False),
        ("us-east-2a", "us-east-1", False),
        ("us-east-11a", "us-east-1", False),
    ],
)
def test_what_lies_in_a_region(zone: str, region: str, lies_in_it: bool) -> None:
    assert is_zone_of(zone, region) == lies_in_it
