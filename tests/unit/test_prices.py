"""The price book: exact to the written digit, and silent about what it does not know."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given

from pipeline.core.errors import JobInvalid
from pipeline.core.money import ON_DEMAND, SPOT, UNKNOWN_PRICE, Node
from pipeline.prices import Quotes, parse_prices, shipped_book
from tests.unit.strategies import bounded, prices_per_hour

BOOK = """\
as_of: 2026-11-20
source: AWS price list
machines:
  g6.xlarge: {spot: 0.2913, on_demand: '0.8048'}
  g5.xlarge:
    on_demand: 1.006
  free: {spot: 0}
"""


def node(kind: str, lifecycle: str) -> Node:
    return Node("i-1", kind, "eu-west-1a", lifecycle)


def test_a_listed_machine_has_its_price_and_its_source() -> None:
    price = parse_prices(BOOK, "prices.yaml").price_of(node("g6.xlarge", "spot"))
    assert price.usd_per_hour == Decimal("0.2913")
    assert price.on_demand_usd_per_hour == Decimal("0.8048")
    assert price.source == "AWS price list, as of 2026-11-20"
    on_demand = parse_prices(BOOK, "prices.yaml").price_of(node("g6.xlarge", "on-demand"))
    assert on_demand.usd_per_hour == Decimal("0.8048")


@pytest.mark.parametrize("lifecycle", ["spot", "on-demand", "unknown"])
def test_an_unlisted_machine_has_an_unknown_price(lifecycle: str) -> None:
    assert parse_prices(BOOK, "p").price_of(node("p5.48xlarge", lifecycle)) == UNKNOWN_PRICE


@pytest.mark.parametrize(
    ("kind", "lifecycle"), [("g6.xlarge", "unknown"), ("g5.xlarge", "spot"), ("g6.xlarge", "Spot")]
)
def test_an_unlisted_rate_is_unknown_and_not_nothing(kind: str, lifecycle: str) -> None:
    price = parse_prices(BOOK, "p").price_of(node(kind, lifecycle))
    assert price.usd_per_hour is None
    assert price.source == "unknown"


def test_a_price_of_nothing_is_a_price() -> None:
    assert parse_prices(BOOK, "p").price_of(node("free", "spot")).usd_per_hour == 0


@bounded
@given(prices_per_hour)
def test_a_price_means_the_digits_that_were_written(price: Decimal) -> None:
    for written in (f"'{price:f}'", f"{price:f}"):
        text = f"as_of: now\nsource: s\nmachines:\n  m: {{spot: {written}}}\n"
        assert parse_prices(text, "p").price_of(node("m", "spot")).usd_per_hour == price


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("spot: 0.2913", "spot: -1", 4),
        ("spot: 0.2913", "spot: cheap", 4),
        ("spot: 0.2913", "spot: .nan", 4),
        ("spot: 0.2913", "spot: .inf", 4),
        ("spot: 0.2913", "spott: 1", 4),
        ("on_demand: 1.006", "on_demand: [1]", 6),
        ("source: AWS price list\n", "", 1),
        ("machines:", "machine:", 1),
        ("as_of: 2026-11-20", "as_of: 2026-11-20\ncurrency: EUR", 2),
        ("as_of: 2026-11-20", "as_of: 2026-11-31", 1),
        ("as_of: 2026-11-20", "as_of: ''", 1),
        ("as_of: 2026-11-20", "as_of:", 1),
        ("source: AWS price list", "source: ' '", 2),
        ("source: AWS price list", "source: unknown", 2),
        ("source: AWS price list", "source: s\nregions: ['']", 3),
        ("spot: 0.2913", "spot: 1:30", 4),
        ("spot: 0.2913", "spot: 1_5", 4),
        ("spot: 0.2913", "spot: 1e30", 4),
        ("spot: 0.2913", "spot: 1000000", 4),
        ("spot: 0.2913", "spot: '0.0000000000001'", 4),
        ("spot: 0.2913", "spot: 0x10", 4),
        ("spot: 0.2913", "spot: true", 4),
        ("free: {spot: 0}", "free: {}", 7),
        ("free: {spot: 0}", "free: {spot: null}", 7),
    ],
)
def test_a_mistake_is_refused_with_its_line(old: str, new: str, line: int) -> None:
    assert old in BOOK
    with pytest.raises(JobInvalid) as refused:
        parse_prices(BOOK.replace(old, new), "prices.yaml")
    assert refused.value.where == f"prices.yaml, line {line}"


def test_a_machine_listed_twice_is_refused() -> None:
    with pytest.raises(JobInvalid, match="given twice"):
        parse_prices(BOOK + "  g6.xlarge: {spot: 1}\n", "prices.yaml")


def test_two_names_of_one_machine_are_refused() -> None:
    with pytest.raises(JobInvalid, match=r"g6\.xlarge and G6\.XLarge are one machine") as refused:
        parse_prices(BOOK + "  G6.XLarge: {spot: 1}\n", "prices.yaml")
    assert refused.value.where == "prices.yaml, line 3"


AZURES = """\
as_of: 2026-11-09
source: a list
regions: [eastus]
machines:
  Standard_NC24ads_A100_v4: {spot: 1.5}
"""


@pytest.mark.parametrize("size", ["Standard_NC24ads_A100_v4", "standard_nc24ads_a100_V4"])
@pytest.mark.parametrize("zone", ["eastus", "EastUS", "EastUS-1"])
def test_azure_writes_its_names_as_it_likes(size: str, zone: str) -> None:
    for text in (AZURES, AZURES.lower(), AZURES.replace("eastus", "EastUS")):
        price = parse_prices(text, "p").price_of(Node("i-1", size, zone, "spot"))
        assert price.usd_per_hour == Decimal("1.5")


LISTS = """\
lists:
  - as_of: 2026-11-09
    source: the newer list
    regions: [us-east-1]
    machines:
      g6.xlarge: {spot: 0.3}
  - as_of: 2026-10-01
    source: the older list
    machines:
      g6.xlarge: {spot: 0.5, on_demand: 0.9}
"""


@pytest.mark.parametrize(
    ("zone", "spot", "source"),
    [
        ("us-east-1a", "0.3", "the newer list (us-east-1), as of 2026-11-09"),
        ("unknown", "0.3", "the newer list (us-east-1), as of 2026-11-09"),
        ("eu-west-1a", "0.5", "the older list, as of 2026-10-01"),
    ],
)
def test_of_several_lists_the_first_that_holds_tells_the_price(
    zone: str, spot: str, source: str
) -> None:
    price = parse_prices(LISTS, "p").price_of(Node("i-1", "g6.xlarge", zone, "spot"))
    assert (price.usd_per_hour, price.source) == (Decimal(spot), source)
    assert price.on_demand_usd_per_hour == Decimal("0.9")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lists: []\n", 1),
        ("as_of: x\nsource: s\nmachines: {}\n", 3),
        ("as_of: x\nsource: s\nmachines: [m]\n", 3),
        ("lists:\n- as_of: !!bool maybe\n", 2),
    ],
)
def test_a_book_that_tells_nothing_is_refused(text: str, line: int) -> None:
    with pytest.raises(JobInvalid) as refused:
        parse_prices(text, "prices.yaml")
    assert refused.value.where == f"prices.yaml, line {line}"


def test_amounts_are_what_was_written_and_not_what_yaml_makes_of_it() -> None:
    text = """\
as_of: 2026-11-20 08:00:00
source: 010
machines:
  octal: &price {spot: 010}
  same: *price
  merged: {<<: *price, on_demand: 0.10}
  exact: {spot: 0.123456789012, on_demand: ~}
"""
    book = parse_prices(text, "p")
    found = {kind: book.price_of(node(kind, "spot")) for kind in ("octal", "same", "merged")}
    assert {price.usd_per_hour for price in found.values()} == {Decimal(10)}
    assert found["merged"].on_demand_usd_per_hour == Decimal("0.10")
    assert found["octal"].source == "010, as of 2026-11-20 08:00:00"
    exact = book.price_of(node("exact", "spot"))
    assert exact.usd_per_hour == Decimal("0.123456789012")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("spot: 0.5", "spot: -1", 10),
        ("    source: the newer list\n", "", 2),
        ("    regions: [us-east-1]", "    region: us-east-1", 4),
        ("lists:\n", "as_of: 2026\nlists:\n", 1),
    ],
)
def test_a_mistake_in_a_list_is_refused_with_its_line(old: str, new: str, line: int) -> None:
    assert old in LISTS
    with pytest.raises(JobInvalid) as refused:
        parse_prices(LISTS.replace(old, new), "prices.yaml")
    assert refused.value.where == f"prices.yaml, line {line}"


def test_both_prices_of_a_machine_that_knows_no_zone_are_of_one_region() -> None:
    """Its spot price was Frankfurt's, and what it would have cost on demand Virginia's."""
    somewhere = Node("i-1", "g6e.xlarge", "unknown", SPOT)
    price = Quotes(somewhere, None, None, shipped_book()).price()
    assert price.on_demand_source.count("eu-central-1") == price.source.count("eu-central-1") == 1
    book = shipped_book()
    for machine in {name for one in book.lists for name in one.machines}:
        nowhere = Node("i-1", machine, "unknown", SPOT)
        rate, dear = book.rate(nowhere, SPOT), None
        if rate is not None:
            dear = book.rate(nowhere, ON_DEMAND, beside=rate)
        if rate is not None and dear is not None and rate.regions and dear.regions:
            assert {*rate.regions} & {*dear.regions}, machine


@pytest.mark.parametrize("zone", ["us-east-1a", "unknown"])
def test_a_list_of_a_zone_holds_beside_one_of_its_region(zone: str) -> None:
    book = parse_prices(
        """\
lists:
  - {as_of: today, source: ours, regions: [us-east-1a], machines: {box: {spot: 1}}}
  - {as_of: today, source: theirs, regions: [US-East-1], machines: {box: {on_demand: 3}}}
""",
        "prices.yaml",
    )
    price = book.price_of(Node("i-1", "box", zone, SPOT))
    assert (price.usd_per_hour, price.on_demand_usd_per_hour) == (Decimal(1), Decimal(3))
