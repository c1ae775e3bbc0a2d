"""Where a job may run, what an hour costs there, and which place it is going to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from pipeline.at_hand import JobAtHand
from pipeline.core.money import ON_DEMAND, SPOT, Node, NodePrice
from pipeline.core.past import PastRun, PastSession
from pipeline.predicting.market import NOT_ASKED, Market
from pipeline.prices import PriceBook, Quotes, Rate, shipped_book
from pipeline.pricing import own_book

_HOUR_MICROS = Decimal(3_600_000_000)
_GRAIN = Decimal("0.000001")
UNKNOWN = "unknown"


class Place(NamedTuple):
    """A type of machine, and on what terms it is had."""

    machine: str
    lifecycle: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What workers' own `Quotes` would say. What the newest run paid on such machines stands in for
    a `market` that says nothing, and for what nobody lists. `at_hand` is the node that asks."""

    at_hand: Node
    book: PriceBook | None
    runs: Sequence[PastRun]
    market: Market = NOT_ASKED

    def node(self, place: Place) -> Node:
        """A machine as it would be there: in this zone, or in that of the newest run on such."""
        newest = self._newest(place)
        is_here = self.at_hand.instance_type == place.machine
        known = not is_here and newest is not None and newest.zone != UNKNOWN
        zone = newest.zone if known and newest is not None else self.at_hand.zone
        return Node(UNKNOWN, place.machine, zone, place.lifecycle)

    def on_market(self, places: Iterable[Place]) -> list[Node]:
        """The spot machines among them whose price is a market's, and not the job's own book's."""
        nodes = [self.node(place) for place in places if place.lifecycle == SPOT]
        book = self.book
        return [node for node in nodes if book is None or book.rate(node, SPOT) is None]

    def of(self, place: Place) -> NodePrice:
        node = self.node(place)
        paid = next((rate for run in self.runs if (rate := _paid(run, place)) is not None), None)
        price = Quotes(node, self.book, _LastPaid(self.market, paid), shipped_book()).price()
        if price.usd_per_hour is not None or paid is None:
            return price
        return replace(price, usd_per_hour=paid.usd_per_hour, source=paid.source)

    def newest_share(self, place: Place) -> Fraction | None:
        """What a worker had of its machine in the newest run on such; None where none was."""
        newest = self._newest(place)
        return None if newest is None else newest.node_share

    def _newest(self, place: Place) -> PastSession | None:
        """On such a machine; on other terms, if none was on these."""
        sessions = [s for run in self.runs for s in run.sessions if s.machine == place.machine]
        such = (session for session in sessions if session.lifecycle == place.lifecycle)
        return next(such, next(iter(sessions), None))

    @property
    def machines(self) -> list[str]:
        lists = () if self.book is None else self.book.lists
        return list(dict.fromkeys(machine for one in lists for machine in one.machines))


def prices_of(here: JobAtHand, at_hand: Node, runs: Sequence[PastRun]) -> Prices:
    """Raises `JobInvalid` for a price book that is none."""
    return Prices(at_hand, own_book(here), runs)


@dataclass(frozen=True, slots=True)
class _LastPaid:
    """Implements `LivePrices` by what the market says, or else asked for once."""

    market: Market
    paid: Rate | None

    def spot(self, node: Node) -> Rate | None:
        return self.market.spot(node) or self.paid


def _paid(run: PastRun, place: Place) -> Rate | None:
    own = [s for s in run.sessions if Place(s.machine, s.lifecycle) == place]
    usd = sum((s.usd for s in own if s.usd is not None), Decimal(0))
    micros = sum(s.buckets.total for s in own if s.usd is not None)
    if not micros:
        return None
    return Rate((usd * _HOUR_MICROS / micros).quantize(_GRAIN), f"paid in {run.run_id}")


def places(runs: Sequence[PastRun], prices: Prices) -> list[Place]:
    """Spot and on-demand of every machine that an earlier run was on, that this command is on, or
    that the job's price book lists; machines without a name as they were."""
    named = [*_used(runs), _place_of(prices.at_hand)]
    machines: dict[str, str] = {}
    for machine in (*(place.machine for place in named), *prices.machines):
        if machine != UNKNOWN:
            # As a node calls itself, however its book writes it.
            machines.setdefault(machine.casefold(), machine)
    both = [Place(name, terms) for name in machines.values() for terms in (SPOT, ON_DEMAND)]
    others = [place for place in named if UNKNOWN in place]
    return list(dict.fromkeys([*both, *others]))


def chosen_place(at_hand: Node, runs: Sequence[PastRun], measured: bool) -> tuple[Place, str]:
    """Where the run is going to be, and why that is thought: nobody asks a pool before it runs.

    On a machine of this type if a sample was `measured` here, or runs were on such; else where the
    newest run was, since this may be a small machine that only starts workers elsewhere. On the
    terms of the newest run on that type, for whoever plans spot workers may sit at the same on
    demand.
    """
    here = _place_of(at_hand)
    used = [(place, run) for run in runs for place in _used([run])]
    # Machines without a name have nothing in common.
    named = (one for one in used if one[0].machine != UNKNOWN)
    such = next((one for one in named if one[0].machine == here.machine), None)
    if such is not None:
        place, run = such
        why = f"a machine like this one, on the terms of {run.run_id}"
        return place, "this machine" if place == here else why
    if measured or not used:
        return here, "this machine"
    place, run = used[0]
    return place, f"as {run.run_id}"


def _place_of(node: Node) -> Place:
    return Place(node.instance_type, node.lifecycle)


def _used(runs: Sequence[PastRun]) -> list[Place]:
    """The place where most of the time was spent first."""
    seconds: Counter[Place] = Counter()
    for run in runs:
        for session in run.sessions:
            seconds[Place(session.machine, session.lifecycle)] += session.buckets.total
    # One that ended before it told where it was has no time that anybody can price.
    return [place for place, spent in seconds.most_common() if spent]
