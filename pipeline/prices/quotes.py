"""The present price of a node: the job's own book, then the market, then the shipped book."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

from pipeline.core.money import ON_DEMAND, SPOT, Node, NodePrice
from pipeline.prices.book import PriceBook, Rate, node_price


class LivePrices(Protocol):
    def spot(self, node: Node) -> Rate | None:
        """What a spot node of this type in this zone costs now; None when that cannot be learnt.

        May take seconds, and raises nothing. A price that has not moved comes with the same source.
        """
        ...


class Quotes:
    """Tells the price of a `share` of one node, now. One thread at a time may ask.

    `own` is the job's book, which comes first because it may be a contract. Without `live`, no
    market is asked. What the market said last holds while it doesn't answer.
    """

    def __init__(
        self,
        node: Node,
        own: PriceBook | None,
        live: LivePrices | None,
        shipped: PriceBook,
        share: Fraction = Fraction(1),
    ) -> None:
        self._node = node
        self._own = own
        self._live = live
        self._shipped = shipped
        self._share = share
        self._market: Rate | None = None

    def price(self) -> NodePrice:
        """May take seconds; never raises. What nobody knows is None with the source `unknown`."""
        own = self._listed(self._own, self._node.lifecycle)
        rate = own or self._market_rate() or self._listed(self._shipped, self._node.lifecycle)
        dear = (self._listed(book, ON_DEMAND, rate) for book in (self._own, self._shipped))
        on_demand = next((found for found in dear if found is not None), None)
        return node_price(rate, on_demand).of_share(self._share)

    @property
    def is_silent(self) -> bool:
        """Whether there is a market that should tell this price, and never did."""
        has_market = self._live is not None and self._node.lifecycle == SPOT
        own = self._listed(self._own, self._node.lifecycle)
        return own is None and has_market and self._market is None

    def _listed(
        self, book: PriceBook | None, lifecycle: str, beside: Rate | None = None
    ) -> Rate | None:
        return None if book is None else book.rate(self._node, lifecycle, beside)

    def _market_rate(self) -> Rate | None:
        if self._live is None or self._node.lifecycle != SPOT:
            return None
        self._market = self._live.spot(self._node) or self._market
        return self._market
