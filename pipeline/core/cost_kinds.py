"""What time cost, by what it was spent on, to the last digit of what it cost in all."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from pipeline.core.money import Buckets, dollars
from pipeline.core.spans import Span

OVERHEAD = ("boot", "load", "idle", "drain")
Part: TypeAlias = tuple[int, Decimal | None]
"""Microseconds, and the dollars an hour of them costs."""


class Kinds(NamedTuple):
    """Dollars of time at one price; None where it has an unknown one."""

    useful: Decimal | None
    wasted: Decimal | None
    overhead: Decimal | None


def shared(total: Decimal | None, parts: Sequence[Part]) -> list[Decimal | None]:
    """What each part cost, adding up to `total`: what rounding leaves falls to the longest, or
    comes off it and the next ones: none costs less than nothing, unless `total` does.

    Where it is unknown what they add up to, each is what its own price makes of it.
    """
    amounts = [dollars(micros, usd_per_hour) for micros, usd_per_hour in parts]
    known = [amount for amount in amounts if amount is not None]
    if total is None or len(known) < len(amounts):
        return amounts
    left = total - sum(known)
    longest_first = sorted(range(len(parts)), key=lambda number: -parts[number][0])
    for number in longest_first:
        part = max(left, -known[number])
        known[number] += part
        left -= part
    known[longest_first[0]] += left
    return [*known]


def kinds_of_attempt(spans: Sequence[Span]) -> list[Kinds]:
    """By span. A shard's cost is their sum: each kind is rounded by itself."""
    return [
        Kinds(
            dollars(spent.useful, price.usd_per_hour),
            dollars(spent.wasted, price.usd_per_hour),
            dollars(spent.overhead, price.usd_per_hour),
        )
        for price, spent in spans
    ]


def kinds_of_rest(spans: Sequence[Span], total: Decimal | None) -> list[Kinds]:
    """By span, of what a session had left, which cost `total`."""
    found = []
    whole = shared(total, [(spent.total, price.usd_per_hour) for price, spent in spans])
    for (price, spent), cost in zip(spans, whole, strict=True):
        # The first of equals takes what rounding leaves: a rest is overhead before all.
        parts = (spent.overhead, spent.wasted, spent.useful)
        overhead, wasted, useful = shared(cost, [(micros, price.usd_per_hour) for micros in parts])
        found.append(Kinds(useful, wasted, overhead))
    return found


def by_bucket(spans: Sequence[Span], kinds: Sequence[Kinds]) -> dict[str, Decimal] | None:
    """The kinds of all spans, their overhead by bucket; None where one of them is unknown."""
    found = dict.fromkeys(Buckets().items(), Decimal(0))
    for (price, spent), (useful, wasted, overhead) in zip(spans, kinds, strict=True):
        seconds = spent.items()
        parts = shared(overhead, [(seconds[name], price.usd_per_hour) for name in OVERHEAD])
        for name, usd in zip(
            ("useful", "wasted", *OVERHEAD), (useful, wasted, *parts), strict=True
        ):
            if usd is None:
                return None
            found[name] += usd
    return found
