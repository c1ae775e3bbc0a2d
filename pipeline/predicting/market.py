"""What a spot market asks now where a job may run, asked once before a run, and not for long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.at_hand import JobAtHand
from pipeline.core.money import Node
from pipeline.prices import LivePrices, Rate
from pipeline.pricing import market_in, market_region

log = logging.getLogger("spotmill.prices")

PATIENCE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Market:
    """Implements `LivePrices` by what was told when it was asked. `silent` is why, in words, where
    it told less than everything."""

    silent: str | None = None
    rates: Mapping[tuple[str, str], Rate] = field(default_factory=dict)

    def spot(self, node: Node) -> Rate | None:
        return self.rates.get((node.instance_type, node.zone))


NOT_ASKED = Market("a run that begins does not wait for it")


def market_now(
    here: JobAtHand, nodes: Iterable[Node], patience_seconds: float = PATIENCE_SECONDS
) -> Market:
    """Ask for each of these spot nodes. Takes `patience_seconds` at most, and raises nothing."""
    if not here.job.cost.live_prices:
        return Market("cost.live_prices is false")
    regions = {node: region for node in nodes if (region := market_region(node)) is not None}
    if not regions:
        return Market("no candidate is known to be in a zone of EC2's")
    rates: dict[tuple[str, str], Rate] = {}

    def ask() -> None:
        markets: dict[str, LivePrices] = {}
        try:
            for node, region in regions.items():
                if region not in markets:
                    markets[region] = market_in(here, region)
                rate = markets[region].spot(node)
                if rate is not None:
                    rates[node.instance_type, node.zone] = rate
        except Exception as problem:
            log.warning("the spot market is not asked: %s", problem)

    # A daemon: what hangs is left behind, whatever time-outs its client has.
    asking = threading.Thread(target=ask, name="market", daemon=True)
    asking.start()
    asking.join(patience_seconds)
    told = dict(rates)
    missing = [n.instance_type for n in regions if (n.instance_type, n.zone) not in told]
    silent = f"EC2 told no spot price of {', '.join(missing)}" if missing else None
    return Market(silent, told)
