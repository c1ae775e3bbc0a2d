"""Where a job may run, what an hour costs there, and which place it is going to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from pipeline.at_hand import JobAtHand, text_at
from pipeline.core.money import UNKNOWN_PRICE, Node, NodePrice
from pipeline.core.past import PastRun
from pipeline.prices import PriceBook, parse_prices
from pipeline.spot.node import node_from_environment

_HOUR_MICROS = Decimal(3_600_000_000)
_GRAIN = Decimal("0.000001")
SPOT, ON_DEMAND, UNKNOWN = "spot", "on-demand", "unknown"


class Place(NamedTuple):
    """A type of machine, and on what terms it is had."""

    machine: str
    lifecycle: str


@dataclass(frozen=True, slots=True)
class Prices:
    """The job's own price book first, then what the newest earlier run paid."""

    book: PriceBook | None
    runs: Sequence[PastRun]

    def of(self, place: Place) -> NodePrice:
        listed = self._listed(place)
        if listed.usd_per_hour is not None:
            return listed
        paid = next((usd for run in self.runs if (usd := _paid(run, place)) is not None), None)
        return listed if paid is None else NodePrice(*paid)

    def _listed(self, place: Place) -> NodePrice:
        if self.book is None:
            return UNKNOWN_PRICE
        return self.book.price_of(Node(instance_type=place.machine, lifecycle=place.lifecycle))

    @property
    def machines(self) -> list[str]:
        return [] if self.book is None else list(self.book.machines)


def prices_of(here: JobAtHand, runs: Sequence[PastRun]) -> Prices:
    """Raises `JobInvalid` for a price book that is none."""
    uri = here.job.cost.prices
    if uri is None:
        return Prices(None, runs)
    return Prices(parse_prices(text_at(uri, "the price book", here.options), uri), runs)


def _paid(run: PastRun, place: Place) -> tuple[Decimal, str] | None:
    own = [s for s in run.sessions if Place(s.machine, s.lifecycle) == place]
    usd = sum((s.usd for s in own if s.usd is not None), Decimal(0))
    micros = sum(s.buckets.total for s in own if s.usd is not None)
    if not micros:
        return None
    return (usd * _HOUR_MICROS / micros).quantize(_GRAIN), f"paid in {run.run_id}"


def places(runs: Sequence[PastRun], prices: Prices) -> list[Place]:
    """Spot and on-demand of every machine that an earlier run was on, that this command is on, or
    that the job's price book lists; machines without a name as they were."""
    at_hand = node_from_environment()
    named = [*_used(runs), Place(at_hand.instance_type, at_hand.lifecycle)]
    machines = dict.fromkeys(
        machine
        for machine in (*(place.machine for place in named), *prices.machines)
        if machine != UNKNOWN
    )
    both = [Place(machine, terms) for machine in machines for terms in (SPOT, ON_DEMAND)]
    others = [place for place in named if UNKNOWN in place]
    return list(dict.fromkeys([*both, *others]))


def chosen_place(runs: Sequence[PastRun]) -> tuple[Place, str]:
    """Where the run is going to be, and why that is thought: nobody asks a pool before it runs."""
    at_hand = node_from_environment()
    if at_hand.instance_type != UNKNOWN:
        return Place(at_hand.instance_type, at_hand.lifecycle), "this machine"
    for run in runs:
        if used := _used([run]):
            return used[0], f"as {run.run_id}"
    return Place(UNKNOWN, at_hand.lifecycle), "nobody named another"


def _used(runs: Sequence[PastRun]) -> list[Place]:
    """The place where most of the time was spent first."""
    seconds: Counter[Place] = Counter()
    for run in runs:
        for session in run.sessions:
            seconds[Place(session.machine, session.lifecycle)] += session.buckets.total
    return [place for place, _ in seconds.most_common()]
