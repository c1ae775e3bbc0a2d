"""Asks what this machine costs while a worker works, since a spot market moves (decision 020)."""

from __future__ import annotations

import logging

from pipeline.core.money import NodePrice
from pipeline.core.ports import Clock, PriceQuotes
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")


class Repricing:
    """One session's price, asked for every so many `seconds`. One thread calls it."""

    def __init__(
        self, quotes: PriceQuotes | None, seconds: float, errands: Errands, clock: Clock
    ) -> None:
        self._quotes = quotes
        self._errands = errands
        self._clock = clock
        self._seconds = seconds
        self._ask_at = clock.now() + seconds
        self._asking = False
        self._next: NodePrice | None = None

    def before_work(self, sheet: Timesheet) -> None:
        """No shard is charged with a second yet: a price that nobody knew when the session began,
        and somebody does after the load, is that of its whole life."""
        if self._quotes is None or sheet.price.usd_per_hour is not None:
            return
        price = self._quotes.price()
        if price.usd_per_hour is not None:
            log.info("an hour costs %s USD: %s", price.usd_per_hour, price.source)
            sheet.cost_always(price)

    def look_after(self, feed: Feed) -> None:
        """Ask when it is time to, and have `feed` count at a price that is another."""
        if self._next is not None and feed.reprice(self._next):
            self._next = None
        if self._quotes is None or self._asking or self._clock.now() < self._ask_at:
            return
        self._asking = True
        self._ask_at = self._clock.now() + self._seconds

        def came(price: NodePrice) -> None:
            self._asking = False
            now = feed.price
            # A price that got lost is no news: the last one known is the best guess.
            if price.usd_per_hour is not None and not price.is_as_dear_as(now):
                log.info("an hour costs %s USD from now on: %s", price.usd_per_hour, price.source)
                self._next = price

        def failed(problem: Exception) -> None:
            self._asking = False
            log.warning("what an hour costs now is not known: %s", problem)

        self._errands.send(self._quotes.price, came, failed)
