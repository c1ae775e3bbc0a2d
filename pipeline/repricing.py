"""Has a worker's seconds counted at the price they had, since a market moves (decision 020)."""

from __future__ import annotations

import logging

from pipeline.core.money import NodePrice
from pipeline.core.ports import Clock
from pipeline.feed import Feed
from pipeline.price_moves import PriceMoves
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")


class Repricing:
    """One session's price. One thread calls it."""

    def __init__(self, moves: PriceMoves, clock: Clock, sheet: Timesheet) -> None:
        self._moves = moves
        self._clock = clock
        self._sheet = sheet

    def look_after(self, feed: Feed) -> None:
        """See what an hour costs, and have `feed` count at it; again after the next step, if there
        are seconds that nobody can be charged with yet."""
        self._moves.look()
        newest = self._moves.newest
        if newest is not None and not newest.is_as_dear_as(feed.price) and feed.reprice(newest):
            _tell(newest)

    def loaded(self, feed: Feed | None) -> None:
        """A load is over: each stretch of it has the price that was seen then. Without a `feed`, no
        shard is charged with a second yet."""
        self._moves.look()
        sheet = self._sheet
        for at, price in self._moves.since(sheet.so_far[0], sheet.price, feed is not None):
            if at is None:
                sheet.cost_always(price)
            else:
                # What was not shared out yet had the price before: it is tried again at work.
                if not sheet.all_shared:
                    break
                sheet.pass_to(at, "load")
                if feed is None:
                    sheet.reprice(price, ())
                else:
                    feed.reprice(price)
            _tell(price)
        sheet.pass_to(self._clock.now(), "load")


def _tell(price: NodePrice) -> None:
    log.info("an hour costs %s USD from now on: %s", price.usd_per_hour, price.source)
