"""What every cloud's notices have to survive, and the doubles' insistence on the protocols."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httpx
import pytest

from pipeline.spot.aws import AwsNotices
from pipeline.spot.azure import AzureNotices
from pipeline.spot.cloud import CloudNotices
from pipeline.spot.google import GoogleNotices
from tests.doubles.azure_metadata import AzureMetadata
from tests.doubles.google_metadata import GoogleMetadata
from tests.doubles.imds import Imds
from tests.doubles.server import MetadataDouble, Trouble, until_told
from tests.doubles.watching import told, watching


@dataclass(frozen=True, slots=True)
class Cloud:
    double: Callable[[int], MetadataDouble]
    notices: Callable[[str], CloudNotices]
    announce: Callable[[MetadataDouble], object]


CLOUDS = {
    "aws": Cloud(
        lambda port: Imds(port), AwsNotices, lambda double: cast("Imds", double).announce()
    ),
    "google": Cloud(
        lambda port: GoogleMetadata(port),
        lambda url: GoogleNotices(url, answer_seconds=0.2),
        lambda double: cast("GoogleMetadata", double).preempt(),
    ),
    "azure": Cloud(
        lambda port: AzureMetadata(port=port),
        lambda url: AzureNotices(url, answer_seconds=0.2),
        lambda double: cast("AzureMetadata", double).schedule("Preempt"),
    ),
}


@pytest.fixture(params=sorted(CLOUDS))
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return CLOUDS[request.param]


@pytest.mark.parametrize("trouble", ["500", "503", "garbage", "hang up", "slow"])
def test_trouble_is_no_notice_and_passes(cloud: Cloud, trouble: Trouble) -> None:
    with cloud.double(0) as double:
        double.trouble = trouble
        with watching(cloud.notices(double.url)) as polled:
            enough = 1 if trouble == "slow" else 2
            until_told(lambda: len(double.asked) >= enough, 10, "asked in spite of it")
            assert polled.pending() is None
            double.trouble = None
            cloud.announce(double)
            assert told(polled, seconds=10).kind == "reclaim"


def test_trouble_after_a_good_start_passes_too(cloud: Cloud) -> None:
    with cloud.double(0) as double, watching(cloud.notices(double.url)) as polled:
        until_told(lambda: len(double.asked) >= 2, 5, "asked")
        double.trouble = "hang up"
        cloud.announce(double)
        # Google's hanging request is answered even so: it was asked before the trouble.
        until_told(lambda: polled.pending() or len(double.asked) >= 5, 10, "asked in spite of it")
        double.trouble = None
        assert told(polled, seconds=10).kind == "reclaim"


def test_a_service_that_comes_late_is_found(cloud: Cloud) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    notices = cloud.notices(f"http://127.0.0.1:{port}")
    with pytest.raises(Exception, match=r"refused"):
        notices.look()
    with cloud.double(port) as double, watching(notices) as polled:
        until_told(lambda: double.asked, 10, "asked")
        assert polled.pending() is None
        cloud.announce(double)
        assert told(polled, seconds=10).kind == "reclaim"


def test_proxies_are_not_asked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with cloud.double(0) as double:
        notices = cloud.notices(double.url)
        assert notices.look() is None
        notices.close()


def test_the_doubles_insist_on_the_protocols() -> None:
    with Imds() as imds, httpx.Client(base_url=imds.url, trust_env=False) as http:
        ttl = "X-aws-ec2-metadata-token-ttl-seconds"
        assert http.get("/latest/meta-data/spot/instance-action").status_code == 401
        assert http.put("/latest/api/token").status_code == 400
        assert http.put("/latest/api/token", headers={ttl: "21601"}).status_code == 400
        forwarded = {ttl: "60", "X-Forwarded-For": "10.0.0.1"}
        assert http.put("/latest/api/token", headers=forwarded).status_code == 403
        token = http.put("/latest/api/token", headers={ttl: "60"}).text
        with_token = {"X-aws-ec2-metadata-token": token}
        path = "/latest/meta-data/spot/instance-action"
        assert http.get(path, headers=with_token).status_code == 404
        imds.announce()
        assert http.get(path, headers=with_token).json()["action"] == "terminate"
    with GoogleMetadata() as metadata, httpx.Client(base_url=metadata.url, trust_env=False) as http:
        assert http.get("/computeMetadata/v1/instance/preempted").status_code == 403
    with AzureMetadata() as azure, httpx.Client(base_url=azure.url, trust_env=False) as http:
        path, headers = "/metadata/scheduledevents", {"Metadata": "true"}
        good = f"{path}?api-version=2020-07-01"
        assert http.get(good).status_code == 400
        assert http.get(path, headers=headers).status_code == 400
        first = http.get(good, headers=headers).json()
        event = azure.schedule("Freeze")
        assert http.post(good, headers=headers, content=b"{}").status_code == 400
        start = {"StartRequests": [{"EventId": event}]}
        assert http.post(good, headers=headers, json=start).status_code == 200
        second = http.get(good, headers=headers).json()
        assert second["DocumentIncarnation"] > first["DocumentIncarnation"]
        assert second["Events"][0]["EventStatus"] == "Started"
