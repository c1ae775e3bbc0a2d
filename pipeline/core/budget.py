"""When a run stops for money, and how far beyond its budget it may come: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.core.money import MICROS_PER_SECOND, dollars

WARN_SHARE = Decimal("0.8")
"""Of the budget, where the job names no `cost.warn_usd`."""
DRAIN_SECONDS = 10.0
"""Kept back for each worker's end: a step, a save, a last beat."""


def seconds_usd(seconds: float, usd_per_hour: Decimal) -> Decimal:
    """What so many seconds cost, rounded up to a whole microsecond."""
    usd = dollars(math.ceil(max(0.0, seconds) * MICROS_PER_SECOND), usd_per_hour)
    assert usd is not None  # noqa: S101 - the price is known
    return usd


def warns_at(budget_usd: Decimal | None, warn_usd: Decimal | None) -> Decimal | None:
    """What a run may spend before somebody is told; None is never."""
    if warn_usd is not None or budget_usd is None:
        return warn_usd
    return budget_usd * WARN_SHARE


@dataclass(frozen=True, slots=True)
class Sight:
    """What an observer knows of a worker's time, by its own clock.

    No second after `billed_from` is sure to be in the worker's bill; its beat moved last at
    `heard_at`; at `ended_at` the pool told of its end, if it did. One that has not been seen to
    have `moved` was there before this observer, and may be long dead.
    """

    billed_from: float
    heard_at: float
    ended_at: float | None = None
    moved: bool = True

    def lives(self, looked_at: float, lease_seconds: float) -> bool:
        """Whether it may spend yet, judged at the last look that the store answered."""
        return self.ended_at is None and looked_at - self.heard_at < lease_seconds

    def unbilled_seconds(self, now: float, looked_at: float, lease_seconds: float) -> float:
        """For how long it may have lived beyond its bill, at the most.

        A beat of a living worker is never older than half a lease: one that fell silent died
        within that, or before the pool told of it.
        """
        if self.lives(looked_at, lease_seconds):
            return max(0.0, now - self.billed_from)
        died_by = self.heard_at + lease_seconds / 2
        if self.ended_at is not None:
            died_by = min(died_by, self.ended_at)
        return max(0.0, died_by - self.billed_from)


@dataclass(frozen=True, slots=True)
class Meter:
    """What one worker has cost: the bill that its last beat tells of, and seconds it may have
    lived since, at the price it has now. `runs` is whether it goes on spending, and `deaf_seconds`
    for how long it may not hear that it is to stop, since it loads a model."""

    billed_usd: Decimal
    usd_per_hour: Decimal
    unbilled_seconds: float = 0.0
    runs: bool = False
    deaf_seconds: float = 0.0

    @property
    def usd(self) -> Decimal:
        return self.billed_usd + seconds_usd(self.unbilled_seconds, self.usd_per_hour)


def spent_usd(meters: Iterable[Meter]) -> Decimal:
    """What the run has cost by now, at the most."""
    return sum((meter.usd for meter in meters), Decimal(0))


def committed_usd(meters: Sequence[Meter], drain_seconds: float) -> Decimal:
    """What the run will have cost at the most, if all its workers are asked to drain now."""
    deaf = sum((seconds_usd(m.deaf_seconds, m.usd_per_hour) for m in meters if m.runs), Decimal(0))
    return spent_usd(meters) + _running_usd(meters, drain_seconds) + deaf


def is_reached(budget_usd: Decimal, meters: Sequence[Meter], drain_seconds: float) -> bool:
    """Whether the run has to stop now for its drain to end within the budget."""
    return committed_usd(meters, drain_seconds) >= budget_usd


def allowed_seconds(
    budget_usd: Decimal, meters: Sequence[Meter], drain_seconds: float
) -> float | None:
    """For how long those that run can go on until the budget `is_reached`, if all stays as it is;
    None when they cost nothing, or nobody runs."""
    left = budget_usd - committed_usd(meters, drain_seconds)
    an_hour = _running_usd(meters, 3_600.0)
    if left <= 0:
        return 0.0
    return None if not an_hour else float(left / an_hour * 3_600)


def affordable_starts(
    budget_usd: Decimal,
    meters: Sequence[Meter],
    *,
    wanted: int,
    usd_per_hour: Decimal,
    start_seconds: float,
    drain_seconds: float,
) -> int:
    """How many of the `wanted` workers to start: those that would come to work before the budget
    is spent, by them and by those that run.

    `start_seconds` is what a worker takes to boot and load. One that would be stopped before its
    first token costs money for nothing.
    """
    left = budget_usd - committed_usd(meters, drain_seconds)
    left -= _running_usd(meters, start_seconds)
    each = seconds_usd(start_seconds + drain_seconds, usd_per_hour)
    if left <= 0:
        return 0
    return wanted if each == 0 else min(wanted, int(left // each))


def overshoot_bound(
    usd_per_hour: Iterable[Decimal],
    *,
    tick_seconds: float,
    lag_seconds: float,
    drain_seconds: float,
    reserved_seconds: float = DRAIN_SECONDS,
) -> Decimal:
    """How far beyond its budget a run may come: its running workers' prices x (a tick + what a
    beat lags + what their drain takes beyond what was kept back for it).

    `tick_seconds` is the longest time between two decisions, whatever it went into; `lag_seconds`
    how much older than its arrival in the store a beat's bill may be: the step and the store's
    calls between.

    Why. Let S(t) be what has truly been spent, p the prices of the workers that run, t1 and t2
    two decisions in a row, the second of which stops the run.
    1. A bill that a look sees first had arrived after the look before it began, so it tells of all
       seconds up to then, but for the lag; the estimate E adds all seconds from then on, at every
       decision. So E(t) >= S(t) - lag * sum(p). For a worker that has no bill yet, E counts from
       when it was asked for.
    2. t1 did not stop the run: E(t1) + reserved * sum(p) < budget, and what it started fitted in.
    3. Until t2, when all are asked to drain, at most a tick passes: S grows by tick * sum(p).
    4. Then each worker drains: S grows by its drain * p.
    Together: S(end) < budget + sum(p) * (tick + lag + drain - reserved). A drain that is quicker
    than what was kept back for it counts for nothing here, so the bound holds worker by worker.

    Workers that no pool reaches, those of other supervisors among them, hear in the bucket that
    they are to stop, a quarter of a lease later at the most: that is kept back too, and is part of
    the drain. With no supervisor left, all stop when the last allowance ends, which is when the
    budget would have been reached, however long a tick would have been (decision 025).

    What it does not cover, since nobody could know of it: a price that rises; of a worker dearer
    than any seen before, what its boot costs more until it tells its price, and its drain; what was
    spent before anybody had told one; of one that took longer to boot or load than any before, what
    that took longer; of one that loads another engine in mid-life, what that takes, until its
    session says so, a beat and a half later; of one that was lost before this supervisor began,
    seconds beyond half a lease after its bill (its engine hung).
    """
    seconds = tick_seconds + lag_seconds + max(0.0, drain_seconds - reserved_seconds)
    return sum((seconds_usd(seconds, price) for price in usd_per_hour), Decimal(0))


def _running_usd(meters: Iterable[Meter], seconds: float) -> Decimal:
    prices = (meter.usd_per_hour for meter in meters if meter.runs)
    return sum((seconds_usd(seconds, price) for price in prices), Decimal(0))
