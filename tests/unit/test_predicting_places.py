"""Where a run is expected to be, and what a market asks for machines there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pipeline.core.money import Buckets, Node
from pipeline.core.past import PastRun, PastSession
from pipeline.predicting.market import market_now
from pipeline.predicting.places import Place, Prices, chosen_place, places
from pipeline.prices import PriceBook, parse_prices, shipped_book
from tests.doubles.ec2 import Ec2Api, Sold
from tests.unit.plan_bench import BOOK, Bench


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ec2Api]:
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "us-east-1a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-this-test")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with Ec2Api(Sold("0.2913")) as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", api.url)
        yield api


def spot_price(said: dict[str, Any]) -> tuple[str, str]:
    [found] = [
        (c["usd_per_hour"], c["price_source"])
        for c in said["candidates"]
        if (c["machine"], c["lifecycle"]) == ("g6.xlarge", "spot")
    ]
    return found


def test_candidates_are_told_where_their_pace_and_price_are_known(bench: Bench) -> None:
    bench.ran("one")
    found = {(c["machine"], c["lifecycle"]): c for c in bench.plan()["candidates"]}
    spot, dear = found["g6.xlarge", "spot"], found["g6.xlarge", "on-demand"]
    assert Decimal(dear["usd_p50"]) > Decimal(spot["usd_p50"])
    assert found["g5.xlarge", "spot"]["usd_p50"] is None
    assert found["g5.xlarge", "spot"]["usd_per_hour"] == "0.40"


def test_workers_that_share_this_machine_are_priced_by_their_share(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.plan(sample=40)
    halves = bench.plan(sample=40, fleet={"workers": 2})
    told = next(one for one in halves["candidates"] if one["chosen"])
    assert (told["usd_per_hour"], told["node_share"]) == ("0.36", "1/2")
    hours, usd = Decimal(str(halves["worker_hours"]["p50"])), Decimal(halves["usd"]["p50"])
    assert abs(usd - hours * Decimal("0.18")) < Decimal("0.00001")
    ratio = halves["worker_hours"]["p50"] / whole["worker_hours"]["p50"]
    assert 1.4 < ratio < 2.8, "together they are as fast as one that has it to itself"
    # What was paid by runs of other shares is the whole machine's price all the same.
    monkeypatch.setenv("SPOTMILL_NODE_SHARE", "1/4")
    bench.ran("quarter")
    monkeypatch.delenv("SPOTMILL_NODE_SHARE")
    (bench.place / "none.yaml").write_text(BOOK.replace("g6.xlarge", "g6.2xlarge"))
    later = next(one for one in bench.plan(cost={"prices": "none.yaml"})["candidates"])
    assert later["price_source"] == "paid in quarter"
    assert abs(Decimal(later["usd_per_hour"]) - Decimal("0.36")) < Decimal("0.001")
    assert later["node_share"] == "1"


def test_a_place_has_the_price_that_its_workers_would_be_charged() -> None:
    here = Node("i-1", "p5.48xlarge", "us-east-1a", "spot")
    hour = Buckets(useful=3_600_000_000)
    paid = [
        PastSession("p5.48xlarge", "spot", 1, hour, usd=Decimal(20)),
        PastSession("p5.48xlarge", "on-demand", 1, hour, usd=Decimal(30)),
        PastSession("toaster", "on-demand", 1, hour, usd=Decimal(2)),
    ]
    run = PastRun("before", 1, 1, 1, 1, 0, 0, tuple(paid))
    contract = parse_prices(BOOK.replace("g6.xlarge", "p5.48xlarge"), "mine.yaml")

    def said(book: PriceBook | None, machine: str, terms: str) -> tuple[str, str]:
        price = Prices(here, book, [run]).of(Place(machine, terms))
        return str(price.usd_per_hour), price.source

    assert said(contract, "p5.48xlarge", "spot")[0] == "0.36"
    assert said(None, "p5.48xlarge", "spot") == ("20.000000", "paid in before"), "for the market"
    listed = shipped_book().rate(here, "on-demand")
    assert listed is not None
    assert said(None, "p5.48xlarge", "on-demand") == (str(listed.usd_per_hour), listed.source)
    assert said(None, "toaster", "on-demand") == ("2.000000", "paid in before"), "no list has it"


def test_spot_machines_are_priced_by_what_their_market_asks_now(
    bench: Bench, market: Ec2Api
) -> None:
    bench.ran("one")
    market.asked.clear()
    market.pages = [[Sold("0.312000", "2026-11-20T05:30:00.000Z")]]
    said = bench.plan(cost={})
    usd, source = spot_price(said)
    assert Decimal(usd) == Decimal("0.312")
    assert source == "EC2 spot price history, us-east-1a, as of 2026-11-20T05:30:00Z"
    assert not [note for note in said["notes"] if "market" in note]
    assert len(market.asked) == 1
    # A contract is nothing to ask a market about.
    assert spot_price(bench.plan())[0] == "0.36"
    assert len(market.asked) == 1


def test_a_small_machine_asks_for_the_zone_where_workers_were(
    bench: Bench, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one")
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "laptop")
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "desk")
    assert Decimal(spot_price(bench.plan(cost={}))[0]) == Decimal("0.2913")


def test_a_machines_other_terms_are_those_of_where_it_was() -> None:
    """Planned from elsewhere, its on-demand price was another region's, of a whole machine."""
    there = PastSession(
        "g6e.xlarge", "spot", 9, Buckets(useful=1), zone="eu-central-1a", node_share=Fraction(1, 8)
    )
    prices = Prices(Node(), None, [PastRun("one", 1, 1, 9, 9, 0, 0, (there,))])
    for lifecycle in ("spot", "on-demand"):
        place = Place("g6e.xlarge", lifecycle)
        assert prices.node(place).zone == "eu-central-1a"
        assert prices.newest_share(place) == Fraction(1, 8)
        assert "eu-central-1" in prices.of(place).source
    assert prices.newest_share(Place("g6.xlarge", "spot")) is None


def test_a_plan_says_so_when_the_market_was_not_asked(
    bench: Bench, market: Ec2Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**cost: Any) -> list[str]:
        notes = [note for note in bench.plan(cost=cost)["notes"] if "market" in note]
        return [note.rpartition(": ")[2] for note in notes]

    assert told(live_prices=False) == ["cost.live_prices is false"]
    market.refusal = "UnauthorizedOperation"
    assert told() == ["EC2 told no spot price of g6.xlarge"]
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "europe-west4-b")
    assert told() == ["no candidate is known to be in a zone of EC2's"]
    assert told(prices="prices.yaml") == [], "it has its own"


def test_a_market_that_hangs_is_not_waited_for(bench: Bench, market: Ec2Api) -> None:
    market.trouble = "slow"
    node = Node("unknown", "g6.xlarge", "us-east-1a", "spot")
    began = time.monotonic()
    found = market_now(bench.here(cost={}), [node], patience_seconds=0.5)
    assert time.monotonic() - began < 2.0
    assert found.spot(node) is None
    assert found.silent == "EC2 told no spot price of g6.xlarge"


def test_a_machine_without_a_price_has_hours_and_no_cost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the job's own book until it is planned, and never in the one that is shipped.
    monkeypatch.setenv("SPOTMILL_INSTANCE_ZONE", "eu-north-1a")
    bench.ran("one")
    said = bench.plan(cost={})
    # What was paid for it before is known from the run's own manifest.
    assert said["candidates"][0]["price_source"] == "paid in one"
    assert Decimal(said["candidates"][0]["usd_per_hour"]) == Decimal("0.36")
    dear = next(one for one in said["candidates"] if one["lifecycle"] == "on-demand")
    assert dear["worker_hours_p50"] > 0
    assert (dear["usd_per_hour"], dear["usd_p50"], dear["usd_p90"]) == (None, None, None)


def test_a_machine_that_only_starts_workers_is_not_taken_for_theirs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one")
    monkeypatch.setenv("SPOTMILL_INSTANCE_TYPE", "t3.small")
    chosen = bench.plan()["chosen"]
    assert (chosen["machine"], chosen["lifecycle"], chosen["why"]) == (
        "g6.xlarge",
        "spot",
        "as one",
    )
    assert bench.plan(sample=40)["chosen"]["machine"] == "t3.small"


def test_a_worker_that_died_before_it_told_where_it_was_places_no_run() -> None:
    """Where nobody names the machine that asks, either: such have nothing in common."""
    works = PastSession("g6.xlarge", "spot", 900, Buckets(useful=10**9))
    nameless = PastSession("unknown", "unknown", 0, Buckets())
    past = [
        PastRun(name, 1, 1, 9, 900, 0, 0, each)
        for name, each in (
            ("new", (works,)),
            ("old", (nameless, works)),
            ("oldest", (nameless,)),
        )
    ]
    assert chosen_place(Node(), past, measured=False) == (Place("g6.xlarge", "spot"), "as new")
    spent = replace(nameless, buckets=Buckets(useful=1))
    older = replace(past[1], sessions=(spent, works))
    assert chosen_place(Node(), [past[0], older], measured=False)[1] == "as new"
    assert chosen_place(Node(), [past[2]], measured=False)[1] == "this machine"
    found = places(past, Prices(Node(), None, past))
    assert Place("unknown", "unknown") not in found[:-1], "but as where this command is"


def test_spot_workers_are_planned_from_the_same_machine_on_demand(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.ran("one")
    monkeypatch.setenv("SPOTMILL_INSTANCE_LIFECYCLE", "on-demand")
    for said in (bench.plan(), bench.plan(sample=20)):
        chosen = said["chosen"]
        assert (chosen["machine"], chosen["lifecycle"]) == ("g6.xlarge", "spot")
        assert "on the terms of one" in chosen["why"]
    bench.ran("two")
    assert bench.plan()["chosen"]["lifecycle"] == "on-demand"
