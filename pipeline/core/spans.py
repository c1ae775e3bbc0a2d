"""Seconds by the price they had, since a price may change while a session lives (decision 020)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.core.money import Bucket, Buckets, NodePrice, dollars, sum_of


class Span(NamedTuple):
    """Seconds that had one price."""

    price: NodePrice
    buckets: Buckets

    def to_json(self) -> dict[str, Any]:
        return {**self.price.to_json(), "seconds": self.buckets.seconds()}


def all_seconds(spans: Iterable[Span]) -> Buckets:
    """Those at every price."""
    return sum((span.buckets for span in spans), Buckets())


def spans_of(price: NodePrice, buckets: Buckets, earlier: Sequence[Span]) -> tuple[Span, ...]:
    """All spans of an account whose `buckets` are those of all prices together: the `earlier` ones,
    and what is left for `price`, which is the newest."""
    return (*earlier, Span(price, buckets - all_seconds(earlier)))


@dataclass(frozen=True, slots=True)
class Account:
    """A worker's seconds at every price: `buckets`, of which `earlier` had others than `price`."""

    price: NodePrice
    buckets: Buckets = Buckets()
    earlier: tuple[Span, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        return spans_of(self.price, self.buckets, self.earlier)

    def plus(self, bucket: Bucket, micros: int) -> Account:
        """With so much more, at the present price."""
        return replace(self, buckets=self.buckets.plus(bucket, micros))

    def repriced(self, price: NodePrice) -> Account:
        """From now on seconds have this price; one that comes back goes on where it was left."""
        earlier = tuple(span for span in self.spans if span.price != price)
        return Account(price, self.buckets, earlier)


def account_to_json(spans: Sequence[Span]) -> dict[str, Any]:
    """The form it has in checkpoints, sessions and manifests: all seconds, the newest price, and
    where there were several, `prices`, each with its own seconds."""
    document = Span(spans[-1].price, all_seconds(spans)).to_json()
    several = [span.to_json() for span in spans] if len(spans) > 1 else None
    return {**document, **({"prices": several} if several else {})}


def charges(document: Mapping[str, Any]) -> list[Span]:
    """The spans of an attempt, a session or another row that has seconds and a price."""
    rows = document.get("prices") or [document]
    return [Span(NodePrice.from_json(row), Buckets.from_seconds(row["seconds"])) for row in rows]


def together(spans: Iterable[Span]) -> dict[NodePrice, Buckets]:
    """Spans by price, in order; a price that came back has all its seconds together."""
    found: dict[NodePrice, Buckets] = {}
    for price, buckets in spans:
        found[price] = found.get(price, Buckets()) + buckets
    return found


def proved_by(looks: Iterable[Iterable[Span]]) -> tuple[Span, ...]:
    """Looks at one account, whenever each was taken: what they prove together, by price.

    Seconds only grow, but that useful ones may turn out wasted: so whatever a look tells of has
    passed, and what was shared out by the time of the latest look is no more than that look has.
    """
    found: dict[NodePrice, Buckets] = {}
    for look in looks:
        for price, seen in together(look).items():
            found[price] = _at_least(found.get(price, Buckets()), seen)
    return tuple(Span(price, buckets) for price, buckets in found.items())


def _at_least(one: Buckets, other: Buckets) -> Buckets:
    decoding = max(one, other, key=lambda look: look.useful + look.wasted)
    return Buckets(
        boot=max(one.boot, other.boot),
        load=max(one.load, other.load),
        useful=decoding.useful,
        wasted=decoding.wasted,
        idle=max(one.idle, other.idle),
        drain=max(one.drain, other.drain),
    )


def cost_of(spans: Iterable[Span]) -> Decimal | None:
    """What all their seconds cost; None when a price is unknown."""
    return sum_of(dollars(span.buckets.total, span.price.usd_per_hour) for span in spans)
