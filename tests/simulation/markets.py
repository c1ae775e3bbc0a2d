"""Prices that move while workers live. All implement `PriceQuotes`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

from pipeline.core.money import NodePrice
from tests.simulation.process import Process


@dataclass(frozen=True, slots=True)
class Market:
    """What an hour costs a process: a price that moves every 40 seconds, and sometimes back."""

    process: Process
    first: NodePrice

    def price(self) -> NodePrice:
        return self.at(self.process.now())

    def at(self, second: float) -> NodePrice:
        """By the process's own clock."""
        moves = int(second / 40)
        if moves % 3 == 0:
            return self.first
        usd = Decimal(moves % 7 + 1) / 8
        return NodePrice(usd, f"move {moves}", self.first.on_demand_usd_per_hour)


@dataclass(frozen=True, slots=True)
class Drift:
    """Every 20 seconds another price, up or down by `share` at most."""

    process: Process
    first: NodePrice
    share: Decimal

    def price(self) -> NodePrice:
        return self.at(self.process.now())

    def at(self, second: float) -> NodePrice:
        """By the process's own clock."""
        first = self.first.usd_per_hour
        assert first is not None
        moves = int(second / 20)
        moved = Decimal(Random(f"{first} {moves}").randint(-100, 100)) / 100
        usd = first * (1 + self.share * moved)
        return replace(self.first, usd_per_hour=usd, source=f"move {moves}")


def prices_between(market: Market, start: float, end: float) -> Iterator[tuple[NodePrice, float]]:
    """Every price in force from virtual second `start` to `end`, and for how many seconds."""
    origin = market.process.origin
    at = start
    while at < end:
        until = min(end, (int((origin + at) / 40) + 1) * 40 - origin)
        yield market.at(origin + at), until - at
        at = until
