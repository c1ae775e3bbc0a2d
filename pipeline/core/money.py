"""Seconds and dollars. Time is whole microseconds and money is Decimal, so that sums are exact."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any, Literal, TypeVar

Bucket = Literal["boot", "load", "useful", "wasted", "idle", "drain"]
K = TypeVar("K", bound=Hashable)

MICROS_PER_SECOND = 1_000_000
_HOUR_MICROS = Decimal(3_600 * MICROS_PER_SECOND)
DOLLAR_GRAIN = Decimal("0.000000000001")
"""Amounts are rounded to this, the scale of decimal128(38, 12)."""
HOST = "host:"
"""What the instance id of a machine begins with that no cloud named: its host's name follows."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Microseconds of a worker's life, each in exactly one bucket (DESIGN §7)."""

    boot: int = 0
    load: int = 0
    useful: int = 0
    wasted: int = 0
    idle: int = 0
    drain: int = 0

    def plus(self, bucket: Bucket, micros: int) -> Buckets:
        return self + Buckets(**{bucket: micros})

    def __add__(self, other: Buckets) -> Buckets:
        return Buckets(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Buckets)))

    def __sub__(self, other: Buckets) -> Buckets:
        return Buckets(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Buckets)))

    def of_share(self, share: Fraction) -> Buckets:
        """What a worker with a `share` of a machine took of the machine's own time."""
        if share == 1:
            return self
        return Buckets(*(round(micros * share) for micros in self.items().values()))

    @property
    def total(self) -> int:
        return sum(self.items().values())

    @property
    def overhead(self) -> int:
        return self.boot + self.load + self.idle + self.drain

    def items(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(Buckets)}

    def seconds(self) -> dict[str, float]:
        return {name: micros / MICROS_PER_SECOND for name, micros in self.items().items()}

    @staticmethod
    def from_seconds(seconds: Mapping[str, float]) -> Buckets:
        return Buckets(
            **{name: round(value * MICROS_PER_SECOND) for name, value in seconds.items()}
        )


SPOT, ON_DEMAND = "spot", "on-demand"
"""The lifecycles of a node that have a price of their own."""


@dataclass(frozen=True, slots=True)
class Node:
    """The machine under a worker, as far as anybody told us; `unknown` where nobody did."""

    instance_id: str = "unknown"
    instance_type: str = "unknown"
    zone: str = "unknown"
    lifecycle: str = "unknown"

    @property
    def resource_id(self) -> str | None:
        """What a provider's bill knows it by; None where nobody told but the machine itself."""
        unbilled = self.instance_id == "unknown" or self.instance_id.startswith(HOST)
        return None if unbilled else self.instance_id


@dataclass(frozen=True, slots=True)
class NodePrice:
    """None is an unknown price, which is not a price of nothing. Each source says in words whose
    price it is, and of what time; `unknown` where nobody knows or, in older books, said it."""

    usd_per_hour: Decimal | None
    source: str
    on_demand_usd_per_hour: Decimal | None = None
    on_demand_source: str = "unknown"

    def is_as_dear_as(self, other: NodePrice) -> bool:
        """Whether an hour costs the same, whoever says so."""
        ours = (self.usd_per_hour, self.on_demand_usd_per_hour)
        return ours == (other.usd_per_hour, other.on_demand_usd_per_hour)

    def of_share(self, share: Fraction) -> NodePrice:
        """What a worker's `share` of the node costs, to the `DOLLAR_GRAIN`; the source says so."""
        if share == 1:
            return self

        def said(source: str, usd: Decimal | None) -> str:
            return source if usd is None else f"{source}; {share} of the machine"

        return NodePrice(
            _part(self.usd_per_hour, share),
            said(self.source, self.usd_per_hour),
            _part(self.on_demand_usd_per_hour, share),
            said(self.on_demand_source, self.on_demand_usd_per_hour),
        )

    def to_json(self) -> dict[str, str | None]:
        """The form it has in checkpoints, sessions and manifests (DESIGN §10)."""
        listed = self.on_demand_source
        return {
            "price_per_hour": decimal_text(self.usd_per_hour),
            "on_demand_price_per_hour": decimal_text(self.on_demand_usd_per_hour),
            "price_source": self.source,
            # As in older books, which are added up again and compared, nothing is said of nothing.
            **({} if listed == "unknown" else {"on_demand_price_source": listed}),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> NodePrice:
        """From the document that holds these among others."""
        return NodePrice(
            decimal_of(document["price_per_hour"]),
            document["price_source"],
            decimal_of(document["on_demand_price_per_hour"]),
            document.get("on_demand_price_source", "unknown"),
        )


UNKNOWN_PRICE = NodePrice(usd_per_hour=None, source="unknown")
UNTOLD_PRICE = NodePrice(usd_per_hour=None, source="not told yet")
"""What a session has until it was asked for: the first price that is found is its whole life's."""


def micros_of(seconds: float) -> int:
    return round(seconds * MICROS_PER_SECOND)


def dollars(micros: int, usd_per_hour: Decimal | None) -> Decimal | None:
    """Price times time, to the `DOLLAR_GRAIN`; None when the price is unknown, unless there is no
    time to pay for."""
    if usd_per_hour is None and micros:
        return None
    usd = (usd_per_hour or Decimal(0)) * micros / _HOUR_MICROS
    return usd.quantize(DOLLAR_GRAIN, ROUND_HALF_EVEN)


def _part(usd: Decimal | None, share: Fraction) -> Decimal | None:
    if usd is None:
        return None
    return (usd * share.numerator / share.denominator).quantize(DOLLAR_GRAIN, ROUND_HALF_EVEN)


def share_out(total: int, weights: Mapping[K, int]) -> dict[K, int]:
    """Split `total` in proportion to `weights`; the parts sum to `total` exactly.

    Largest remainder (Hamilton's method), ties by the order of `weights`. All weights zero means
    equal parts; no weights means nobody to charge, and the caller keeps it all.
    """
    if not weights:
        return {}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    whole = sum(weights.values())
    parts = {key: total * weight // whole for key, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda key: -(total * weights[key] % whole))
    for key in by_remainder[: total - sum(parts.values())]:
        parts[key] += 1
    return parts


def share_out_each(amounts: Mapping[str, int], weights: Mapping[K, int]) -> dict[K, dict[str, int]]:
    """Each amount shared out by itself: by the keys of `weights`, then by name."""
    shares = {name: share_out(amount, weights) for name, amount in amounts.items()}
    return {key: {name: share[key] for name, share in shares.items()} for key in weights}


def share_out_dollars(usd: Decimal, weights: Mapping[K, int]) -> dict[K, Decimal]:
    """As `share_out`, by the `DOLLAR_GRAIN`, which `usd` is a multiple of."""
    shares = share_out(int(usd / DOLLAR_GRAIN), weights)
    return {key: grains * DOLLAR_GRAIN for key, grains in shares.items()}


def decimal_text(amount: Decimal | None) -> str | None:
    """A plain decimal string for JSON, so that no reader rounds money by accident."""
    return None if amount is None else f"{amount:f}"


def decimal_of(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def sum_of(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum; None when any amount is unknown."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
