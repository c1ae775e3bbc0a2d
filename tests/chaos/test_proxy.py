"""The proxy does to requests what the campaign's report says it did."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.core.errors import StoreUnavailable
from pipeline.core.ports import ObjectStore
from pipeline.stores import StoreOptions
from pipeline.stores.s3 import S3Store
from tests.chaos.processes import owner_of_port
from tests.chaos.proxy import Side, Trap, UnrulyProxy, Weather
from tests.s3 import S3Bucket


@pytest.fixture
def proxy(s3_bucket: S3Bucket) -> Iterator[UnrulyProxy]:
    made = UnrulyProxy(s3_bucket.endpoint_url, seed=1)
    yield made
    made.close()


@pytest.fixture
def through(proxy: UnrulyProxy, s3_bucket: S3Bucket) -> ObjectStore:
    """Asks once: what a request meets is seen."""
    return S3Store(s3_bucket.name, StoreOptions(endpoint_url=proxy.endpoint_url))


@pytest.fixture
def past(s3_bucket: S3Bucket) -> ObjectStore:
    return S3Store(s3_bucket.name, s3_bucket.options)


@pytest.mark.parametrize("weather", ["refuse", "reset", "slow down"])
def test_a_store_is_away_in_bad_weather_and_back_after_it(
    proxy: UnrulyProxy, through: ObjectStore, past: ObjectStore, weather: Weather
) -> None:
    through.put("before", b"1")
    proxy.set_weather(weather)
    with pytest.raises(StoreUnavailable) as away:
        through.put("meanwhile", b"2")
    assert ("SlowDown" in str(away.value)) == (weather == "slow down")
    proxy.set_weather("fair")
    assert past.get("meanwhile") is None
    through.put("after", b"3")
    assert (past.get("before"), past.get("after")) == (b"1", b"3")


def test_what_was_sent_into_a_stall_arrives_when_it_is_over(
    proxy: UnrulyProxy, through: ObjectStore
) -> None:
    through.put("key", b"before")
    proxy.set_weather("stall")
    began = time.monotonic()
    timer = threading.Timer(1.0, proxy.set_weather, ["fair"])
    timer.start()
    assert through.get("key") == b"before"
    assert time.monotonic() - began >= 0.9
    timer.join()


def test_requests_whose_answers_are_lost_were_carried_out(
    proxy: UnrulyProxy, through: ObjectStore, past: ObjectStore
) -> None:
    proxy.set_weather("lose answers")
    lost = 0
    for number in range(30):
        try:
            through.put(f"key-{number:02d}", b"1")
        except StoreUnavailable:
            lost += 1
    assert lost == proxy.met["lose answers"] > 0
    assert len(past.list("key-")) == 30


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_trap_knows_who_sent_the_request_and_on_which_side_of_it_it_is(
    proxy: UnrulyProxy, through: ObjectStore, past: ObjectStore, side: Side
) -> None:
    caught: list[int | None] = []

    def spring(port: int) -> None:
        caught.append(owner_of_port(port, [1, os.getpid()]))

    proxy.add_trap(Trap(lambda path: path.endswith("/wanted"), side, spring))
    through.put("other", b"1")
    assert caught == []
    with pytest.raises(StoreUnavailable):
        through.put("wanted", b"2")
    assert caught == [os.getpid()]
    assert past.get("wanted") == (b"2" if side == "after" else None)
    through.put("wanted", b"3")
    assert past.get("wanted") == b"3"


def test_a_request_that_is_held_goes_on_later(
    proxy: UnrulyProxy, through: ObjectStore, past: ObjectStore
) -> None:
    began = time.monotonic()
    sides: tuple[Side, ...] = ("before", "after")
    for side in sides:
        trap = Trap(lambda path: path.endswith("/wanted"), side, lambda _port: None, 0.5)
        proxy.add_trap(trap)
        through.put("wanted", side.encode())
        assert past.get("wanted") == side.encode()
    assert time.monotonic() - began >= 1.0
