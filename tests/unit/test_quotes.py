"""Whose price a node has: its job's book, the market, the shipped book, or nobody's."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice, dollars
from pipeline.core.ports import PriceQuotes
from pipeline.prices import PriceBook, Quotes, Rate, parse_prices, shipped_book
from tests.unit.strategies import bounded, prices_per_hour

NODE = Node("i-1", "g6.xlarge", "us-east-1a", "spot")
NOTHING = parse_prices(
    "as_of: x\nsource: another's\nmachines: {toaster: {spot: 1, on_demand: 1}}", "nothing.yaml"
)
MINE = parse_prices(
    "as_of: 2026-11-01\nsource: our contract\nmachines: {g6.xlarge: {spot: 0.2, on_demand: 0.7}}",
    "mine.yaml",
)
LISTED = parse_prices(
    "as_of: 2026-10-01\nsource: a list\nmachines: {g6.xlarge: {spot: 0.4, on_demand: 0.8}}",
    "listed.yaml",
)


class Market:
    """Says what it is told to, one answer after the other; the last one again and again."""

    def __init__(self, *answers: str | None) -> None:
        self.answers: Sequence[str | None] = answers
        self.asked = 0

    def spot(self, node: Node) -> Rate | None:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return None if answer is None else Rate(Decimal(answer), f"the market, answer {answer}")


def test_the_jobs_own_book_goes_before_the_market() -> None:
    market = Market("0.3")
    quotes: PriceQuotes = Quotes(NODE, MINE, market, LISTED)
    assert quotes.price() == NodePrice(
        Decimal("0.2"),
        "our contract, as of 2026-11-01",
        Decimal("0.7"),
        "our contract, as of 2026-11-01",
    )
    assert market.asked == 0


def test_the_market_goes_before_the_shipped_book() -> None:
    price = Quotes(NODE, None, Market("0.3"), LISTED).price()
    assert (price.usd_per_hour, price.source) == (Decimal("0.3"), "the market, answer 0.3")
    listed = (price.on_demand_usd_per_hour, price.on_demand_source)
    assert listed == (Decimal("0.8"), "a list, as of 2026-10-01")


def test_a_book_of_ones_own_that_lacks_the_machine_leaves_it_to_the_others() -> None:
    other = Node("i-1", "g6.xlarge", "us-east-1a", "spot")
    assert Quotes(other, NOTHING, Market("0.3"), LISTED).price().usd_per_hour == Decimal("0.3")
    assert Quotes(other, NOTHING, None, LISTED).price().source == "a list, as of 2026-10-01"


def test_the_on_demand_price_of_a_contract_goes_with_the_markets_spot_price() -> None:
    contract = parse_prices(
        "as_of: x\nsource: ours\nmachines: {g6.xlarge: {on_demand: 0.6}}", "mine.yaml"
    )
    price = Quotes(NODE, contract, Market("0.3"), LISTED).price()
    assert (price.usd_per_hour, price.source) == (Decimal("0.3"), "the market, answer 0.3")
    listed = (price.on_demand_usd_per_hour, price.on_demand_source)
    assert listed == (Decimal("0.6"), "ours, as of x")


def test_the_market_is_asked_each_time_and_prices_move() -> None:
    quotes = Quotes(NODE, None, Market("0.3", "0.3", "0.35"), LISTED)
    assert [quotes.price().usd_per_hour for _ in range(3)] == [
        Decimal("0.3"),
        Decimal("0.3"),
        Decimal("0.35"),
    ]


def test_what_the_market_said_last_holds_while_it_says_nothing() -> None:
    quotes = Quotes(NODE, None, Market("0.3", None, "0.31"), LISTED)
    first, silent, later = quotes.price(), quotes.price(), quotes.price()
    assert silent == first, "an outage of its API moves no price"
    assert later.usd_per_hour == Decimal("0.31")


def test_a_market_that_never_answered_leaves_the_shipped_price() -> None:
    price = Quotes(NODE, None, Market(None), LISTED).price()
    assert price.source == "a list, as of 2026-10-01"
    assert Quotes(NODE, None, Market(None), NOTHING).price() == UNKNOWN_PRICE


@pytest.mark.parametrize("lifecycle", ["on-demand", "unknown", "capacity-block"])
def test_only_spot_nodes_are_on_the_market(lifecycle: str) -> None:
    market = Market("0.3")
    node = Node("i-1", "g6.xlarge", "us-east-1a", lifecycle)
    price = Quotes(node, None, market, LISTED).price()
    assert market.asked == 0
    assert price.usd_per_hour == (Decimal("0.8") if lifecycle == "on-demand" else None)
    assert price.on_demand_usd_per_hour == Decimal("0.8")


_machines = st.dictionaries(
    st.sampled_from(["g6.xlarge", "laptop"]),
    st.fixed_dictionaries(
        {}, optional={"spot": prices_per_hour, "on_demand": prices_per_hour}
    ).filter(bool),
    min_size=1,
)
_lists = st.fixed_dictionaries(
    {
        "as_of": st.just("2026-11-01"),
        "source": st.sampled_from(["a", "b"]),
        "regions": st.sampled_from([(), ("us-east-1",), ("eastus",)]),
        "machines": _machines,
    }
)
_books = st.lists(_lists, min_size=1, max_size=3).map(
    lambda lists: PriceBook.model_validate({"lists": lists})
)
_nodes = st.builds(
    Node,
    st.just("i-1"),
    st.sampled_from(["g6.xlarge", "laptop", "unknown"]),
    st.sampled_from(["us-east-1a", "eastus-1", "unknown"]),
    st.sampled_from(["spot", "on-demand", "unknown", "scheduled"]),
)


@bounded
@given(
    _nodes,
    st.none() | _books,
    st.lists(st.none() | st.decimals("0.000001", 99, places=6).map(str), min_size=1, max_size=3),
    _books,
)
def test_every_price_is_somebodys_and_a_missing_one_is_never_nothing(
    node: Node, own: PriceBook | None, answers: list[str | None], shipped: PriceBook
) -> None:
    """The contract of `PriceQuotes`."""
    quotes = Quotes(node, own, Market(*answers), shipped)
    for _ in answers:
        price = quotes.price()
        written = {
            rate
            for book in (own, shipped)
            if book is not None
            for one in book.lists
            if (machine := one.machines.get(node.instance_type)) is not None
            for rate in (machine.spot, machine.on_demand)
        } | {None if answer is None else Decimal(answer) for answer in answers}
        if price.usd_per_hour is None:
            assert price.source == "unknown"
            assert dollars(Buckets(useful=10**9).total, price.usd_per_hour) is None
        else:
            assert price.source != "unknown"
            assert price.usd_per_hour in written, "nobody said so"
        assert price.on_demand_usd_per_hour is None or price.on_demand_usd_per_hour in written
        assert (price.on_demand_usd_per_hour is None) == (price.on_demand_source == "unknown")


# The book that is shipped.


def test_the_shipped_book_has_common_machines_of_each_cloud() -> None:
    book = shipped_book()
    for kind, zone, lifecycle, usd in (
        ("p5.48xlarge", "us-east-1b", "on-demand", "55.04"),
        ("g6.xlarge", "us-east-1c", "on-demand", "0.8048"),
        ("g6.xlarge", "us-east-1c", "spot", "0.3809"),
        ("a3-highgpu-8g", "us-central1-c", "spot", "50.3153"),
        ("g2-standard-4", "us-east1-b", "on-demand", "0.706832255"),
        ("Standard_NC24ads_A100_v4", "westeurope-1", "spot", "0.8824"),
        ("Standard_NC24ads_A100_v4", "eastus-2", "on-demand", "3.673"),
    ):
        price = book.price_of(Node("n", kind, zone, lifecycle))
        assert price.usd_per_hour == Decimal(usd), kind
        assert ", as of 202" in price.source


COMMON = {
    "us-east-1": (
        *(f"g4dn.{size}xlarge" for size in ("", 2, 4, 8, 12, 16)),
        *(
            f"{kind}.{size}xlarge"
            for kind in ("g5", "g6")
            for size in ("", 2, 4, 8, 12, 16, 24, 48)
        ),
        *(f"g6e.{size}xlarge" for size in ("", 2, 4, 8, 12, 16, 24, 48)),
        *("p4d.24xlarge", "p4de.24xlarge", "p5.48xlarge", "p5en.48xlarge"),
    ),
    "us-central1": (
        *(f"g2-standard-{cores}" for cores in (4, 8, 12, 16, 24, 32, 48, 96)),
        *(f"a2-{kind}gpu-{gpus}g" for kind in ("high", "ultra") for gpus in (1, 2, 4, 8)),
        *("a3-highgpu-8g", "a3-megagpu-8g", "a3-ultragpu-8g"),
    ),
    "eastus": (
        *(f"Standard_NC{cores}ads_A100_v4" for cores in (24, 48, 96)),
        *("Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5", "Standard_ND96isr_H100_v5"),
        *("Standard_ND96asr_v4", "Standard_ND96amsr_A100_v4"),
    ),
}
"""Machines that people run models on, in the region of each cloud that most are in."""


@pytest.mark.parametrize("lifecycle", ["spot", "on-demand"])
@pytest.mark.parametrize("region", COMMON)
def test_common_machines_have_both_prices(region: str, lifecycle: str) -> None:
    book = shipped_book()
    nodes = [Node("n", kind, region, lifecycle) for kind in COMMON[region]]
    assert [node.instance_type for node in nodes if book.price_of(node) == UNKNOWN_PRICE] == []


def test_a_shipped_price_holds_in_its_regions_only() -> None:
    book = shipped_book()
    assert book.price_of(Node("n", "p5.48xlarge", "eu-north-1a", "on-demand")) == UNKNOWN_PRICE
    assert book.price_of(Node("n", "p5.48xlarge", "unknown", "on-demand")).usd_per_hour


def test_no_shipped_price_is_nothing_and_none_is_above_its_on_demand_price() -> None:
    for one in shipped_book().lists:
        assert one.machines, one.source
        assert one.regions, "a provider's prices differ by region"
        assert one.as_of[:4].isdigit()
        for kind, machine in one.machines.items():
            said = [rate for rate in (machine.spot, machine.on_demand) if rate is not None]
            assert said, f"{kind} has no price at all"
            assert min(said) > 0, kind
            zone = f"{one.regions[0]}-1"
            on_demand = shipped_book().rate(Node("n", kind, zone, "spot"), "on-demand")
            if machine.spot is not None and on_demand is not None:
                assert machine.spot < on_demand.usd_per_hour, kind


def test_no_two_shipped_lists_disagree() -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for one in shipped_book().lists:
        for region in one.regions:
            for kind, machine in one.machines.items():
                for lifecycle in ("spot", "on-demand"):
                    if machine.of(lifecycle) is None:
                        continue
                    key = (region, kind, lifecycle)
                    assert key not in seen, f"{key} is in two lists"
                    seen[key] = one.as_of
