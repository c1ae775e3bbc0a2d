"""Nights with a budget that is raised when it is reached: what was spent beyond it, and why."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random

from pipeline.core.budget import overshoot_bound, seconds_usd
from pipeline.core.errors import BudgetReached
from pipeline.core.money import MICROS_PER_SECOND, NodePrice
from pipeline.core.ports import PriceQuotes
from pipeline.core.session import Session
from pipeline.ledger import Ledger
from pipeline.supervisor import FleetSettings
from tests.simulation.campaign import be_quiet, tell
from tests.simulation.invariants import broken
from tests.simulation.markets import Drift
from tests.simulation.memory_rows import JsonFormat
from tests.simulation.night import Night, night
from tests.simulation.process import Process
from tests.simulation.sim_pool import Hearing
from tests.simulation.sim_store import Weather
from tests.simulation.universe import RUN, Universe

_RAISES = 3
"""So often a budget is raised; after that there is none, for the night to be finished."""
_BATCH = 25


@dataclass(frozen=True, slots=True)
class Look:
    """What a supervisor had read of the sessions by this second."""

    at: float
    prices: dict[str, Decimal | None]


class WatchedLedger(Ledger):
    """Notes when a supervisor has read the sessions, which is when it decides."""

    looks: list[Look]
    clock: Process

    def sessions(self) -> dict[str, Session]:
        found = super().sessions()
        prices = {name: session.price.usd_per_hour for name, session in found.items()}
        self.looks.append(Look(self.clock.scheduler.now, prices))
        return found


@dataclass(frozen=True, slots=True)
class Stop:
    """A run stopped for its budget: in dollars, with all its workers gone. `before` is what
    had been spent when its supervisor began, perhaps more than the budget was raised to."""

    before: Decimal
    budget: Decimal
    spent: Decimal
    bound: Decimal

    @property
    def overshoot(self) -> Decimal:
        return self.spent - max(self.budget, self.before)

    @property
    def share_of_bound(self) -> float:
        return float(self.overshoot / self.bound) if self.bound else 0.0


@dataclass(slots=True)
class BudgetUniverse(Universe):
    """`terms` are drawn from the seed alone."""

    budget: Decimal | None = None
    raised: int = 0
    drain_seconds: float = 1.0
    drift: Decimal = Decimal(0)
    began_at: float = 0.0
    looks: list[Look] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    def terms(self) -> None:
        dice = Random(self.night.seed * 7 + 1)
        self.drain_seconds = dice.choice((0.5, 2.0, 5.0, 10.0))
        self.drift = dice.choice((Decimal(0), Decimal(0), Decimal("0.05"), Decimal("0.5")))
        self.budget = (self._guess() * Decimal(dice.randint(5, 120)) / 100).quantize(
            Decimal("0.000001")
        )

    def _guess(self) -> Decimal:
        """About what the night costs if nobody is preempted."""
        pace, rows = self.night.pace, self.night.rows
        tokens = 6 * sum(len(shard) for shard in rows.values())
        workers = min(pace.workers, max(1, len(rows)))
        decoding = tokens * pace.step_seconds / pace.window
        seconds = workers * (pace.boot_seconds + pace.load_seconds + 5) + decoding
        prices = [self.price_of(f"worker-{n}").usd_per_hour or Decimal(0) for n in range(workers)]
        return seconds_usd(seconds, sum(prices, Decimal(0)) / workers)

    def price_of(self, worker_id: str) -> NodePrice:
        dice = Random(f"{self.night.seed} {worker_id}")
        usd = Decimal(dice.randint(1, 400_000_000)) / 10_000_000
        return NodePrice(usd, "made up", usd * 3)

    def quotes_of(self, process: Process, first: NodePrice) -> PriceQuotes:
        return Drift(process, first, self.drift)

    def supervisors_ledger(self, process: Process) -> Ledger:
        ledger = WatchedLedger(self._store(process), RUN, JsonFormat())
        ledger.looks, ledger.clock = self.looks, process
        return ledger

    def fleet_settings(self) -> FleetSettings:
        # Not `super()`: a dataclass with slots is not the class that its methods know.
        settings = Universe.fleet_settings(self)
        return replace(settings, budget_usd=self.budget, drain_seconds=self.drain_seconds)

    def _supervisor(self, process: Process) -> object:
        self.looks.clear()
        self.began_at = self.scheduler.now
        before = self.spent()
        ending = Universe._supervisor(self, process)
        if isinstance(ending, BudgetReached) and self.budget is not None:
            self.stops.append(Stop(before, self.budget, self.spent(), self.bound()))
            self.raised += 1
            dice = Random(self.night.seed * 7 + 1 + self.raised)
            more = self._guess() * Decimal(dice.randint(20, 100)) / 100
            self.budget = None if self.raised > _RAISES else self.budget + more
        return ending

    def spent(self) -> Decimal:
        """By true time, which is more than the books have of workers that were killed: all that
        ever beat, until they were gone. Of those that were lost before this supervisor began, what
        anybody can still know: their bill, and half a lease."""
        total = Decimal(0)
        for name, session in self.ledger.sessions().items():
            process, told = self.workers[name].process, session.price.usd_per_hour
            assert told is not None
            assert session.bill.usd is not None
            over_at = self.scheduler.now if process.over_at is None else process.over_at
            unbilled = over_at - process.born_at - session.buckets.total / MICROS_PER_SECOND
            if over_at <= self.began_at:
                unbilled = min(unbilled, self.night.pace.lease_seconds / 2)
            total += session.bill.usd + seconds_usd(0.0 if session.over else unbilled, told)
        return total

    def bound(self) -> Decimal:
        """The stated bound, with the true lengths of the last tick and of every drain, and with
        what it leaves out: that a price rises, or was not known yet."""
        pace = self.night.pace
        decided = self.looks[-1].at
        before = self.looks[-2] if len(self.looks) > 1 else Look(decided, {})
        seen = [price for price in before.prices.values() if price is not None]
        # A record is made between two steps, and waits for a few calls.
        lag = 2 * pace.step_seconds + 8 * self.night.weather.latency
        total = Decimal(0)
        for name, worker in self.workers.items():
            process, dearest = worker.process, self._usd(name) * (1 + self.drift)
            end = self.scheduler.now if process.over_at is None else process.over_at
            if end <= before.at:
                continue
            total += overshoot_bound(
                [dearest],
                tick_seconds=decided - before.at,
                lag_seconds=lag,
                drain_seconds=max(0.0, end - decided),
                reserved_seconds=self.drain_seconds,
            )
            # Until it told of its price, it was counted as dear as the dearest.
            counted = before.prices.get(name, max(seen, default=Decimal(0)))
            assert counted is not None
            unbilled = before.at - process.born_at
            if name in before.prices:
                unbilled = min(unbilled, pace.lease_seconds / 2 + pace.hang_seconds)
            if counted < dearest:
                total += seconds_usd(unbilled + self.drain_seconds, dearest - counted)
        return total

    def _usd(self, worker_id: str) -> Decimal:
        usd = self.price_of(worker_id).usd_per_hour
        assert usd is not None
        return usd


def budget_night(seed: int) -> Night:
    """A night whose store answers and whose pool hears: preemptions, ticks and rates of its own."""
    tonight, dice = night(seed), Random(seed * 7)
    pace = replace(tonight.pace, tick_seconds=dice.choice((0.5, 1.0, 2.0, 4.0)))
    return replace(
        tonight,
        pace=pace,
        supervisors=1,
        weather=Weather(latency=dice.choice((0.0, 0.1, 0.25))),
        hearing=Hearing(seconds=dice.choice((0.0, 2.0, 10.0))),
        events=tuple(event for event in tonight.events if event.kind in ("kill", "notice")),
        aims={},
    )


@dataclass(frozen=True, slots=True)
class BudgetNight:
    seed: int
    found: list[str]
    stops: list[Stop]


def live(seed: int) -> BudgetNight:
    """One night to its end, with what is wrong with it."""
    universe = BudgetUniverse(budget_night(seed))
    universe.terms()
    try:
        universe.run()
        found = list(broken(universe))
        found += [
            f"{stop.overshoot:.9f} USD beyond the budget of {stop.budget}, bound {stop.bound}"
            for stop in universe.stops
            if stop.overshoot > stop.bound
        ]
    except Exception as problem:
        found = [f"{type(problem).__name__}: {problem}"]
    finally:
        universe.abandon()
    return BudgetNight(seed, found, universe.stops)


def budget_failings(seed: int) -> list[str]:
    return live(seed).found


def live_all(seeds: range, jobs: int = 2) -> Iterator[BudgetNight]:
    batches = [seeds[first : first + _BATCH] for first in range(0, len(seeds), _BATCH)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=be_quiet) as pool:
        for lived in pool.map(_live_some, batches):
            yield from lived


def _live_some(seeds: Sequence[int]) -> list[BudgetNight]:
    gc.disable()
    try:
        return [live(seed) for seed in seeds]
    finally:
        gc.enable()
        gc.collect()


def main() -> None:
    """`python -m tests.simulation.budgets 1000`: what so many nights come to."""
    lived = list(live_all(range(1, int(sys.argv[1]) + 1)))
    stops = [stop for one in lived for stop in one.stops]
    wrong = [f"seed {one.seed}: {one.found}" for one in lived if one.found]
    worst = max((stop.share_of_bound for stop in stops), default=0.0)
    tell(
        f"{len(lived)} nights, {len(stops)} stops, {sum(s.overshoot > 0 for s in stops)} of them "
        f"beyond the budget, by {worst:.3f} of the bound at the most"
    )
    tell("\n".join(wrong) or "nothing wrong")


if __name__ == "__main__":
    main()
