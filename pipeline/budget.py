"""A run's budget, held by whoever supervises it: warned of once, and never spent by surprise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias

from pipeline.core.budget import (
    DRAIN_SECONDS,
    Meter,
    Sight,
    affordable_starts,
    allowed_seconds,
    committed_usd,
    is_reached,
    overshoot_bound,
    spent_usd,
    warns_at,
)
from pipeline.core.errors import BudgetReached, WorkersFailed
from pipeline.core.fleet import BOOT_SECONDS
from pipeline.core.lease import BEATS_IN_A_LEASE
from pipeline.core.lives import life_of, newest_lives
from pipeline.core.money import MICROS_PER_SECOND, decimal_text, dollars
from pipeline.core.session import Session
from pipeline.core.start_times import StartTimes

log = logging.getLogger("spotmill.run")

_UNPRICED_SECONDS = 60.0
"""How long a worker that loads its model may not know its price: it may hear of it before it works,
and then it is that of its whole life."""

Announce: TypeAlias = Callable[[str, str, Mapping[str, Any]], None]
"""Is told what happened to a run's money, once, for whoever may want to act on it: its name
(`budget-warning`, `budget-reached`, `cost-jump`), a sentence, and its figures."""


def announce_nothing(_name: str, _sentence: str, _figures: Mapping[str, Any]) -> None:
    """For supervisors that nobody listens to: the log has the sentence in any case."""


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """`budget_usd` None is no budget; `warn_usd` None is `WARN_SHARE` of it."""

    budget_usd: Decimal | None = None
    warn_usd: Decimal | None = None
    lease_seconds: float = 30.0
    drain_seconds: float = DRAIN_SECONDS

    @property
    def kept_seconds(self) -> float:
        """Kept back for each worker: until it hears in the bucket that it is to stop, and its
        drain."""
        return self.lease_seconds / BEATS_IN_A_LEASE + self.drain_seconds


@dataclass(slots=True)
class Budget:
    """What this observer saw of a run's sessions, and when, by its own clock.

    `asked_for` is when each worker was asked for that has no session yet: the supervisor's own.
    """

    terms: BudgetTerms
    asked_for: Mapping[str, float]
    announce: Announce = announce_nothing
    _sessions: Mapping[str, Session] = field(default_factory=dict)
    _sights: dict[str, Sight] = field(default_factory=dict)
    _began: float | None = None
    _looked_at: float = 0.0
    _held_at: float | None = None
    _tick_seconds: float = 0.0
    _warned: bool = False
    _unpriced: set[str] = field(default_factory=set)
    _unpriced_since: dict[str, float] = field(default_factory=dict)
    _too_dear: bool = False
    _starts: StartTimes = field(default_factory=StartTimes)

    def look(
        self,
        sessions: Mapping[str, Session],
        of_now: Mapping[str, Session],
        began: float,
        now: float,
    ) -> None:
        """Take in what was read from the store between `began` and `now`; `of_now` are those
        `sessions` that this start of the run has to answer for.

        Raises `WorkersFailed` when one of these is going to have no price, and there is a budget to
        hold.
        """
        if self.terms.budget_usd is not None:
            self._refuse_unpriced(of_now, now)
            self._tell_of_unpriced(sessions.keys() - of_now.keys(), sessions)
        elif self.terms.warn_usd is not None:
            # While it loads, a worker may hear of its price yet.
            loaded = {name for name, one in sessions.items() if one.over or not one.only_loaded}
            self._tell_of_unpriced(loaded, sessions)
        for worker_id, session in sessions.items():
            self._see(worker_id, session, now)
        # One that a listing left out has cost what it has cost all the same.
        self._sessions = {**self._sessions, **sessions}
        self._began, self._looked_at = began, now

    def _see(self, worker_id: str, session: Session, now: float) -> None:
        before, sight = self._sessions.get(worker_id), self._sights.get(worker_id)
        if before is None or sight is None:
            # Whoever looks for the first time sees beats of any age, of the living half a lease's.
            oldest = now - self.terms.lease_seconds / 2
            heard_at = oldest if self._began is None else now
            since = oldest if self._began is None else self._began
            self._sights[worker_id] = Sight(since, heard_at, moved=self._began is not None)
        elif before.beat != session.beat:
            # The last look did not see this bill yet, so it is no older than that.
            moved = before.buckets != session.buckets and self._began is not None
            since = self._began if moved and self._began is not None else sight.billed_from
            self._sights[worker_id] = Sight(since, now)
        self._starts.see(session, now)

    def ended(self, worker_id: str, now: float) -> None:
        """The pool tells of a worker's end; if its beat moves on, it was wrong."""
        for name, sight in self._sights.items():
            if life_of(name, worker_id):
                self._sights[name] = replace(sight, ended_at=now)

    def hold(self, now: float) -> None:
        """Raises `BudgetReached` when the run has to stop now; warns before, once.

        From what was seen last, whether or not the store answered since: workers go on spending.
        """
        if self._held_at is not None:
            self._tick_seconds = max(self._tick_seconds, now - self._held_at)
        self._held_at = now
        meters = self._meters(now)
        spent = spent_usd(meters)
        self._warn(spent)
        budget = self.terms.budget_usd
        kept = self.terms.kept_seconds
        if budget is None or not is_reached(budget, meters, kept):
            return
        running = [meter.usd_per_hour for meter in meters if meter.runs]
        beyond = overshoot_bound(
            running,
            tick_seconds=self._tick_seconds,
            lag_seconds=0.0,
            drain_seconds=kept,
            reserved_seconds=kept,
        )
        self._reached(
            f"the budget of {budget} USD is reached: {spent:.6f} spent, and "
            f"{committed_usd(meters, kept) - spent:.6f} kept back for "
            f"{len(running)} workers to hear of it, save and end",
            why=f"at most {beyond:.6f} more were spent since the last look" if running else "",
            spent=spent,
        )

    def allowed_seconds(self, now: float) -> float | None:
        """For how long all workers may go on if nobody says anything more; None is without end."""
        budget = self.terms.budget_usd
        if budget is None:
            return None
        meters = self._meters(now)
        seconds = allowed_seconds(budget, meters, self.terms.kept_seconds)
        if seconds is not None:
            return seconds
        prices = [meter.usd_per_hour for meter in meters if meter.runs]
        untold = any(session.untold and not session.over for session in self._sessions.values())
        if prices and not any(prices) and not untold and not self._unheard:
            # They cost nothing, however long they go on.
            return None
        # Nobody runs, or nobody told of a price yet: whoever comes waits for a better word.
        return self.terms.lease_seconds

    def _reached(self, sentence: str, why: str, spent: Decimal) -> NoReturn:
        figures = {"spent_usd": spent, "budget_usd": self.terms.budget_usd}
        self.announce(
            "budget-reached", sentence, {key: decimal_text(usd) for key, usd in figures.items()}
        )
        raise BudgetReached(
            sentence,
            where="cost.budget_usd",
            why=why,
            hint="raise the budget and `spotmill resume`; what was finished is saved",
        )

    def _refuse_unpriced(self, of_now: Mapping[str, Session], now: float) -> None:
        since = self._unpriced_since
        unpriced = {name: one for name, one in of_now.items() if one.usd is None and not one.untold}
        self._unpriced_since = {name: since.get(name, now) for name in unpriced}
        for name, session in unpriced.items():
            may_hear = session.only_loaded and not session.over
            if not may_hear or now - self._unpriced_since[name] >= _UNPRICED_SECONDS:
                raise WorkersFailed(
                    "the budget cannot be held: a worker's price is unknown",
                    where=f"cost.budget_usd, worker {name}",
                    why="its machine is in no price book, its market does not answer, or nobody "
                    "named its type and lifecycle",
                    hint="complete cost.prices; set SPOTMILL_INSTANCE_TYPE, _LIFECYCLE and _ZONE "
                    "on workers",
                )

    def _tell_of_unpriced(self, earlier: Set[str], sessions: Mapping[str, Session]) -> None:
        """Of earlier starts', if there is a budget: this start refuses to go on with its own. One
        that never told its price may be as dear as the dearest, and counts as such."""
        known = (name for name in earlier if not sessions[name].untold)
        unpriced = {name for name in known if sessions[name].usd is None}
        if new := sorted(unpriced - self._unpriced):
            self._unpriced |= unpriced
            log.warning(
                "what %d workers cost is unknown, and counts as nothing against the budget or "
                "what is warned at: %s",
                *(len(new), ", ".join(new)),
            )

    def starts(self, wanted: int, now: float) -> int:
        """How many of the wanted workers the budget allows. Raises `BudgetReached` when it allows
        none and none lives, for nothing would ever come of it."""
        meters, budget = self._meters(now), self.terms.budget_usd
        price = self._dearest
        if budget is None or price is None or not wanted:
            return wanted
        start_seconds = self._starts.seconds
        allowed = affordable_starts(
            budget,
            meters,
            wanted=wanted,
            usd_per_hour=price,
            start_seconds=start_seconds,
            drain_seconds=self.terms.kept_seconds,
        )
        left = budget - spent_usd(meters)
        if allowed < wanted and not self._too_dear:
            self._too_dear = True
            log.warning(
                "%d of %d workers are not started: %.6f USD are left, and a worker at %s USD an "
                "hour takes %.0f s until its first token",
                *(wanted - allowed, wanted, left, price, start_seconds),
            )
        if not allowed and not any(meter.runs for meter in meters):
            self._reached(
                f"the budget of {budget} USD is reached: {budget - left:.6f} spent, and the "
                f"{left:.6f} left are too little to start a worker with",
                why=f"one takes {start_seconds:.0f} s to boot and load, at {price} USD an hour",
                spent=budget - left,
            )
        return allowed

    def _warn(self, spent: Decimal) -> None:
        limit = warns_at(self.terms.budget_usd, self.terms.warn_usd)
        if limit is None or self._warned or spent < limit:
            return
        self._warned = True
        of = "" if self.terms.budget_usd is None else f" of a budget of {self.terms.budget_usd}"
        sentence = f"{spent:.6f} USD are spent{of}: more than {limit:f}"
        log.warning("%s", sentence)
        figures = {"spent_usd": spent, "warn_usd": limit, "budget_usd": self.terms.budget_usd}
        self.announce(
            "budget-warning", sentence, {key: decimal_text(usd) for key, usd in figures.items()}
        )

    def _meters(self, now: float) -> list[Meter]:
        meters = [
            meter
            for worker_id, session in self._sessions.items()
            if (meter := self._meter(session, self._sights[worker_id], now)) is not None
        ]
        price = self._dearest
        if price is not None:
            # Of those that nobody heard of yet, each may be as dear as the dearest.
            waits = (now - self.asked_for[worker_id] for worker_id in sorted(self._unheard))
            starts = self._starts
            booted = [min(waited, starts.boot_seconds) for waited in waits if waited < BOOT_SECONDS]
            meters += [
                Meter(Decimal(0), price, seconds, True, starts.left_of(seconds))
                for seconds in booted
            ]
        return meters

    def _meter(self, session: Session, sight: Sight, now: float) -> Meter | None:
        """None for a session of an earlier, unpriced start: it cannot be counted. One that did not
        tell its price yet may be as dear as the dearest."""
        usd, price = session.bill.usd, session.price.usd_per_hour
        if session.untold:
            price = self._dearest
            usd = dollars(session.buckets.total, price)
        if usd is None or price is None:
            return None
        if session.over:
            return Meter(usd, price)
        lease = self.terms.lease_seconds
        unbilled = sight.unbilled_seconds(now, self._looked_at, lease)
        lived = session.buckets.total / MICROS_PER_SECOND + unbilled
        return Meter(
            usd,
            price,
            unbilled,
            runs=sight.moved and sight.lives(self._looked_at, lease),
            deaf_seconds=self._starts.deaf_seconds(session, lived, now),
        )

    @property
    def _unheard(self) -> Set[str]:
        """Workers that were asked for, and have no session yet."""
        return self.asked_for.keys() - newest_lives(self._sessions, self.asked_for).keys()

    @property
    def _dearest(self) -> Decimal | None:
        """The highest price that a worker of this run has; None before one has told."""
        prices = (session.price.usd_per_hour for session in self._sessions.values())
        return max((price for price in prices if price is not None), default=None)
