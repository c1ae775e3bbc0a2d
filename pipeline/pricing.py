"""Where a worker's prices come from: its job's book, its node's market, spotmill's own book."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction

from pipeline.at_hand import JobAtHand, text_at
from pipeline.core.money import SPOT, Node
from pipeline.prices import LivePrices, PriceBook, Quotes, parse_prices, shipped_book
from pipeline.prices.zones import region_of
from pipeline.spot.node import zone_id_at_hand
from pipeline.stores.options import endpoint_for

log = logging.getLogger("spotmill.prices")

_CHINA = "cn-"


def own_book(here: JobAtHand) -> PriceBook | None:
    """The book that the job names. Raises `JobInvalid` where it makes no sense."""
    uri = here.job.cost.prices
    if uri is None:
        return None
    return parse_prices(text_at(uri, "the price book", here.options), uri)


def quotes_of(here: JobAtHand, node: Node, share: Fraction = Fraction(1)) -> Quotes:
    """Tells the price of this share of the node, now and as often as it is asked again. Raises
    `JobInvalid` for the job's own book."""
    own = own_book(here)
    if own is not None and own.rate(node, node.lifecycle) is None:
        log.warning(
            "%s has no price of %s (%s) in %s, so others' prices count",
            *(here.job.cost.prices, node.instance_type, node.lifecycle, node.zone),
        )
    region = market_region(node) if here.job.cost.live_prices else None
    live = None if region is None else market_in(here, region, zone_id_at_hand)
    return Quotes(node, own, live, shipped_book(), share)


def market_region(node: Node) -> str | None:
    """Where a market tells what this node costs: for a spot node in a zone of EC2's, its region. No
    other cloud has one that can be asked."""
    region = region_of(node.zone)
    if node.lifecycle != SPOT or node.instance_type == "unknown" or region is None:
        return None
    if region.startswith(_CHINA):
        log.warning(
            "EC2's prices in %s are in yuan: the market is not asked, see cost.prices", region
        )
        return None
    return region


def market_in(
    here: JobAtHand, region: str, zone_id: Callable[[], str | None] = lambda: None
) -> LivePrices:
    """EC2's market; `zone_id` is that of the zone which is going to be asked about, if known."""
    # Takes most of a second to import, which other nodes need not pay.
    from pipeline.prices.ec2 import Ec2SpotPrices
    from pipeline.prices.ec2_access import is_amazons

    # The keys of another store are nothing to show to Amazon.
    elsewhere = not is_amazons(endpoint_for(here.options).url)
    return Ec2SpotPrices(region, roles_alone=elsewhere, zone_id=zone_id)
