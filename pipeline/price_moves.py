"""What an hour of one session costs, and since when that is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.core.money import Bucket, NodePrice, micros_of
from pipeline.core.ports import Clock, PriceQuotes
from pipeline.core.spans import Account


class Move(NamedTuple):
    """A price from second `at` on, by the worker's own clock; None is from the beginning on."""

    at: float | None
    price: NodePrice


def account_at(
    account: Account, until: float, bucket: Bucket, now: float, moves: Iterable[Move]
) -> Account:
    """The account that was told `until` then, if all time from then on is in one bucket."""
    for at, price in moves:
        if at is None:
            account = Account(price, account.buckets)
        else:
            account = account.plus(bucket, micros_of(at - until)).repriced(price)
            until = at
    return account.plus(bucket, micros_of(now - until))


class PriceMoves:
    """Any thread may look, and ask what was seen."""

    def __init__(self, quotes: PriceQuotes | None, clock: Clock) -> None:
        self._quotes = quotes
        self._clock = clock
        self._seen: list[tuple[float, NodePrice]] = []

    def look(self) -> None:
        """See what an hour costs now; waits for no answer."""
        if self._quotes is None:
            return
        price = self._quotes.price()
        # A price that got lost is no news: the last one known is the best guess.
        if price.usd_per_hour is None or price == self.newest:
            return
        self._seen.append((self._clock.now(), price))

    @property
    def newest(self) -> NodePrice | None:
        """What was seen last; None when no price ever was."""
        return self._seen[-1][1] if self._seen else None

    def since(self, at: float, price: NodePrice, charged: bool) -> Iterator[Move]:
        """How it moved from second `at` on, when it was `price`, in order. Before any second was
        `charged`, the first price that is known is that of all seconds there were."""
        for seen_at, seen in tuple(self._seen):
            whole = price.usd_per_hour is None and not charged
            if (seen_at >= at or whole) and not seen.is_as_dear_as(price):
                yield Move(None if whole else seen_at, seen)
                price = seen
