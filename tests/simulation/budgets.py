"""Nights with a budget that is raised when it is reached: what was spent beyond it, and why."""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Literal

from pipeline.core.budget import overshoot_bound, seconds_usd
from pipeline.core.errors import BudgetReached
from pipeline.core.lease import BEATS_IN_A_LEASE
from pipeline.core.money import MICROS_PER_SECOND, NodePrice
from pipeline.core.ports import Engine, PriceQuotes
from pipeline.core.session import Session
from pipeline.ledger import Ledger
from pipeline.session_ledger import SessionLedger
from pipeline.supervisor import FleetSettings
from tests.simulation.campaign import be_quiet, tell
from tests.simulation.invariants import broken
from tests.simulation.markets import Drift
from tests.simulation.memory_rows import JsonFormat
from tests.simulation.night import Event, Night, night
from tests.simulation.process import Process
from tests.simulation.sim_pool import Hearing
from tests.simulation.sim_store import Weather
from tests.simulation.universe import RUN, Universe

Trouble = Literal["none", "killed", "forsaken", "pair", "mute", "outage"]
"""What is wrong with whoever holds the budget: nothing; it is killed, and another follows, or none;
there are two; its pool passes no stop on; the store is away for a while."""
TROUBLES: tuple[Trouble, ...] = ("none", "none", "killed", "forsaken", "pair", "mute", "outage")
_RAISES = 3
"""So often a budget is raised; after that there is none, for the night to be finished."""
_BATCH = 25


@dataclass(frozen=True, slots=True)
class Look:
    """What a supervisor had read of the sessions by this second, by process."""

    at: float
    prices: dict[str, Decimal | None]


class WatchedSessions(SessionLedger):
    """Notes when a supervisor has read the sessions, which is when it decides."""

    looks: list[Look]
    clock: Process

    def all(self) -> dict[str, Session]:
        found = super().all()
        prices = {one.nonce: one.price.usd_per_hour for one in found.values() if not one.untold}
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
    forsaken: bool = False

    @property
    def overshoot(self) -> Decimal:
        return self.spent - max(self.budget, self.before)

    @property
    def share_of_bound(self) -> float:
        return float(self.overshoot / self.bound) if self.bound else 0.0


@dataclass(slots=True)
class BudgetUniverse(Universe):
    """`terms` are drawn from the seed alone."""

    trouble: Trouble = "none"
    budget: Decimal | None = None
    raised: int = 0
    drain_seconds: float = 1.0
    drift: Decimal = Decimal(0)
    looks: dict[str, list[Look]] = field(default_factory=lambda: defaultdict(list))
    loads_until: dict[str, float] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def terms(self) -> None:
        dice = Random(self.night.seed * 7 + 1)
        self.trouble = trouble_of(self.night.seed)
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
        store = self._store(process)
        ledger = Ledger(store, RUN, JsonFormat())
        ledger.sessions = sessions = WatchedSessions(store, RUN)
        sessions.looks, sessions.clock = self.looks[process.name], process
        return ledger

    def fleet_settings(self) -> FleetSettings:
        # Not `super()`: a dataclass with slots is not the class that its methods know.
        settings = Universe.fleet_settings(self)
        return replace(settings, budget_usd=self.budget, drain_seconds=self.drain_seconds)

    def _engine_loader(self, process: Process) -> Callable[[bool], Engine]:
        load = Universe._engine_loader(self, process)

        def timed(own_process: bool) -> Engine:
            self.loads_until[process.name] = self.scheduler.now + self.night.pace.load_seconds
            return load(own_process)

        return timed

    # Supervisors, and what was spent once they are done.

    def _supervisor(self, process: Process) -> object:
        budget, began_at, before = self.budget, self.scheduler.now, self.spent(0.0)
        ending = Universe._supervisor(self, process)
        if isinstance(ending, BudgetReached) and budget is not None:
            decided = self.looks[process.name][-1].at
            while self._living() and self.scheduler.now < decided + 2 * self._last_seconds(""):
                process.sleep(0.5)
            # Another one may see less that may have been spent, and lawfully goes on.
            if all(other is process or other.over_at is not None for other in self.supervisors):
                self._end_late(decided)
            bound = self.bound(self.looks[process.name])
            self.stops.append(Stop(before, budget, self.spent(began_at), bound))
            self._raise_budget(budget)
        return ending

    def _raise_budget(self, reached: Decimal) -> None:
        if self.budget != reached:
            return
        self.raised += 1
        dice = Random(self.night.seed * 7 + 1 + self.raised)
        more = self._guess() * Decimal(dice.randint(20, 100)) / 100
        self.budget = None if self.raised > _RAISES else reached + more

    def _resume(self) -> None:
        anybody = any(supervisor.over_at is None for supervisor in self.supervisors)
        if self.trouble != "forsaken" or anybody or self.manifests or self.budget is None:
            Universe._resume(self)
            return
        killed = self.supervisors[-1].ending == "killed"
        if killed:
            self._wait_alone(self.scheduler.now, self.budget)
        else:
            Universe._resume(self)

    def _wait_alone(self, since: float, budget: Decimal) -> None:
        """Nobody comes before the last worker is gone."""
        if self._living():
            self.scheduler.at(self.scheduler.now + 1.0, lambda: self._wait_alone(since, budget))
            return
        spent, known = self.spent(0.0), self.looks[self.supervisors[-1].name]
        if known and since - known[-1].at > 2 * self._tick_at_most:
            # It had stopped the run, and waited for the workers to end.
            self._end_late(known[-1].at)
            self.stops.append(Stop(Decimal(0), budget, spent, self.bound(known)))
        elif known:
            self.stops.append(Stop(Decimal(0), budget, spent, self.bound_alone(since), True))
        Universe._resume(self)

    @property
    def _tick_at_most(self) -> float:
        """From one look of a supervisor to its next, with the calls that it makes."""
        return self.night.pace.tick_seconds + 24 * self.night.weather.latency

    def _living(self) -> list[Process]:
        return [w.process for w in self.workers.values() if w.process.over_at is None]

    def _end_late(self, decided: float) -> None:
        """Whoever was there when the run was stopped is gone soon after: by constants, not by what
        it took."""
        for name, worker in self.workers.items():
            process = worker.process
            if process.born_at > decided:
                continue
            limit = decided + self._last_seconds(name, decided)
            over_at = self.scheduler.now if process.over_at is None else process.over_at
            if over_at > limit:
                self.wrong.append(f"{name} lived {over_at - limit:.2f} s longer than it may")

    def _last_seconds(self, worker_id: str, decided: float = 0.0) -> float:
        """How long a worker may live that is to stop: until it has heard of it, which is when it
        has booted and loaded, and drained."""
        pace, weather = self.night.pace, self.night.weather
        call = 2 * weather.latency
        hears = pace.lease_seconds / BEATS_IN_A_LEASE + 4 * call + 2 * pace.step_seconds
        hears += sum(last - first for first, last in weather.outages)
        drain = 14 * call + 2 * pace.step_seconds + 1.0 + pace.close_seconds
        hang = 2 * (pace.hang_seconds + pace.load_seconds) if self.night.poison else 0.0
        begins = pace.boot_seconds + pace.ask_seconds + pace.load_seconds + 4.0
        if worker_id:
            born_at = self.workers[worker_id].process.born_at
            until = self.loads_until.get(worker_id, born_at + begins)
            begins = max(0.0, until - decided)
        return hears + drain + hang + begins

    def spent(self, began_at: float) -> Decimal:
        """By true time, which is more than the books have of workers that were killed: all that
        ever beat, until they were gone. Of those that were lost before second `began_at`, what
        anybody can still know: their bill, and half a lease. One that never told its price was no
        dearer, for all that anybody knows, than the dearest that did."""
        total, untold = Decimal(0), dict(self._untold())
        for session in self.ledger.sessions.all().values():
            process, bill = self.worker_of(session).process, session.bill
            told = untold.get(process, session.price.usd_per_hour)
            assert told is not None
            assert bill.usd is not None
            over_at = self.scheduler.now if process.over_at is None else process.over_at
            unbilled = over_at - process.born_at - bill.buckets.total / MICROS_PER_SECOND
            if over_at <= began_at:
                unbilled = min(unbilled, self.night.pace.lease_seconds / 2)
            total += bill.usd + seconds_usd(0.0 if session.over else unbilled, told)
        return total

    def bound(self, looks: Sequence[Look]) -> Decimal:
        """The stated bound, with the true lengths of the last tick and of every end, which
        `_end_late` holds to constants of the night; and what it leaves out: that a price rises, or
        was not known yet."""
        pace = self.night.pace
        decided = looks[-1].at
        before = looks[-2] if len(looks) > 1 else Look(decided, {})
        seen = [price for price in before.prices.values() if price is not None]
        # A record is made between two steps, and waits for a few calls.
        lag = 2 * pace.step_seconds + 8 * self.night.weather.latency
        kept = pace.lease_seconds / BEATS_IN_A_LEASE + self.drain_seconds
        begun = {session.nonce for session in self.ledger.sessions.all().values()}
        total = Decimal(0)
        for name, worker in self.workers.items():
            process, dearest = worker.process, self._usd(name) * (1 + self.drift)
            end = self.scheduler.now if process.over_at is None else process.over_at
            if end > before.at:
                total += overshoot_bound(
                    [dearest],
                    tick_seconds=decided - before.at,
                    lag_seconds=lag,
                    drain_seconds=max(0.0, end - decided),
                    reserved_seconds=kept,
                )
            elif name in before.prices or name not in begun:
                continue
            # Until it told of its price, it was counted as dear as the dearest.
            counted = before.prices.get(name, max(seen, default=Decimal(0)))
            assert counted is not None
            unbilled = min(end, before.at) - process.born_at
            if name in before.prices:
                unbilled = min(unbilled, pace.lease_seconds / 2 + pace.hang_seconds)
            if counted < dearest:
                total += seconds_usd(unbilled + kept, dearest - counted)
        return total

    def bound_alone(self, since: float) -> Decimal:
        """Beyond the budget, when its supervisor vanished at `since`: each worker that lived then
        goes on for a lease at the most, before it knows how long it may, and for its last
        seconds."""
        total = Decimal(0)
        for name, worker in self.workers.items():
            process, dearest = worker.process, self._usd(name) * (1 + self.drift)
            if process.over_at is None or process.over_at > since:
                seconds = self.night.pace.lease_seconds + self._last_seconds(name, since)
                total += seconds_usd(seconds, dearest)
        return total

    def _untold(self) -> Iterator[tuple[Process, Decimal]]:
        """Those that never told their price, and what it may have been for all that is known."""
        sessions = self.ledger.sessions.all().values()
        dearest = max((s.price.usd_per_hour or Decimal(0) for s in sessions), default=Decimal(0))
        for session in sessions:
            if session.untold:
                process = self.worker_of(session).process
                yield process, min(self._usd(process.name), dearest)

    def _usd(self, worker_id: str) -> Decimal:
        usd = self.price_of(worker_id).usd_per_hour
        assert usd is not None
        return usd


def trouble_of(seed: int) -> Trouble:
    return Random(seed * 7 + 3).choice(TROUBLES)


def budget_night(seed: int) -> Night:
    """A night with preemptions, ticks and rates of its own, in which one thing is wrong with what
    holds the budget."""
    tonight, dice, trouble = night(seed), Random(seed * 7), trouble_of(seed)
    pace = replace(tonight.pace, tick_seconds=dice.choice((0.5, 1.0, 2.0, 4.0)))
    latency = dice.choice((0.0, 0.1, 0.25))
    hearing = dice.choice((0.0, 2.0, 10.0))
    events = [event for event in tonight.events if event.kind in ("kill", "notice")]
    # In seconds that a timestamp of microseconds holds to the last digit.
    struck_at = round(dice.uniform(0.2, 1.0) * max(tonight.calm_from, 20.0) * 64) / 64
    if trouble in ("killed", "forsaken"):
        events.append(Event(struck_at, "kill supervisor"))
    outage = (struck_at, struck_at + dice.randint(5, 60))
    return replace(
        tonight,
        # What a notice leaves time for, where the store answers, is for other nights to hold.
        kind="wild" if trouble == "outage" else tonight.kind,
        pace=pace,
        supervisors=2 if trouble == "pair" else 1,
        weather=Weather(latency=latency, outages=(outage,) if trouble == "outage" else ()),
        hearing=Hearing(seconds=hearing, mute=trouble == "mute"),
        events=tuple(events),
        aims={},
    )


@dataclass(frozen=True, slots=True)
class BudgetNight:
    seed: int
    trouble: Trouble
    found: list[str]
    stops: list[Stop]


def live(seed: int) -> BudgetNight:
    """One night to its end, with what is wrong with it."""
    universe = BudgetUniverse(budget_night(seed))
    universe.terms()
    try:
        universe.run()
        found = [*universe.wrong, *broken(universe)]
        found += [
            f"{stop.overshoot:.9f} USD beyond the budget of {stop.budget}, bound {stop.bound}"
            for stop in universe.stops
            if stop.overshoot > stop.bound
        ]
    except Exception as problem:
        found = [*universe.wrong, f"{type(problem).__name__}: {problem}"]
    finally:
        universe.abandon()
    return BudgetNight(seed, universe.trouble, found, universe.stops)


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
    for trouble in sorted(set(TROUBLES)):
        nights = [one for one in lived if one.trouble == trouble]
        stops = [stop for one in nights for stop in one.stops]
        worst = max((stop.share_of_bound for stop in stops), default=0.0)
        tell(
            f"{trouble}: {len(nights)} nights, {len(stops)} stops, "
            f"{sum(s.overshoot > 0 for s in stops)} of them beyond the budget, by {worst:.3f} of "
            "the bound at the most"
        )
    wrong = [f"seed {one.seed}: {one.trouble}: {one.found}" for one in lived if one.found]
    tell("\n".join(wrong) or "nothing wrong")


if __name__ == "__main__":
    main()
