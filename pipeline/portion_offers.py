"""Rows of a worker's shards that others generate: offered, collected, taken back (decision 019)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.core.checkpoint import Attempt, Checkpoint
from pipeline.core.portion import AttemptName, Claims, Portion, PortionName, Take, portion_sizes
from pipeline.core.ports import Clock
from pipeline.core.session import Session
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.held import HeldShard
from pipeline.holders import Holders
from pipeline.ledger import Ledger
from pipeline.lent import AwayPortion
from pipeline.patience import AGAIN_SECONDS, Patience
from pipeline.worker_settings import WorkerSettings

T = TypeVar("T")

log = logging.getLogger("spotmill.worker")

_LEAST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look found of one portion; `over` when nobody else works on it any more, and then the
    `attempts` of all who did."""

    name: PortionName
    points: Sequence[Checkpoint]
    over: bool
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class _Look:
    known: frozenset[str]
    found: Sequence[_Found]


class PortionOffers:
    """For the shards that `feed` holds; nothing is asked of the store until somebody asks for rows,
    or a predecessor had lent some. One thread calls it."""

    def __init__(
        self,
        settings: WorkerSettings,
        ledger: Ledger,
        feed: Feed,
        errands: Errands,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._feed = feed
        self._errands = errands
        self._clock = clock
        self._patience = patience
        self._holders = Holders(ledger, clock, settings.lease_seconds)
        self._looking = False

    def look_after(self) -> None:
        """Answer new asks, and see what became of the portions that are away."""
        now = self._clock.now()
        for shard in self._feed.held.values():
            lent = shard.lent
            if lent.busy or now < lent.store_after or shard.portion is not None:
                continue
            if lent.claims is not None and lent.claims.asks - lent.heeded:
                self._answer(shard, lent.claims)
            if lent.unsent:
                self._offer(shard)
            # One look at a time: they share one watch.
            elif lent.away and not self._looking and now - lent.looked_at >= self._interval(shard):
                self._look(shard)

    def _interval(self, shard: HeldShard) -> float:
        """At every beat; more often when rows that nobody came for are wanted back, or there is
        nothing but the others to wait for."""
        takes = {} if shard.lent.claims is None else shard.lent.claims.takes
        untaken = any(not takes.get(name) for name in shard.lent.away)
        if (untaken and self._feed.hungry) or not shard.running:
            return max(_LEAST_SECONDS, self._settings.beat_seconds / 4)
        return self._settings.beat_seconds

    def _answer(self, shard: HeldShard, claims: Claims) -> None:
        """Take rows out of the line for those who asked; their offers are sent later."""
        lent = shard.lent
        asks = claims.asks - lent.heeded
        lent.heeded |= asks
        sizes = portion_sizes(shard.unbegun, shard.in_line, len(asks), self._feed.window)
        for size in sizes:
            if rows := shard.withdraw(size):
                lent.offered += 1
                portion = Portion(
                    shard.shard.id,
                    shard.lease.epoch,
                    lent.offered,
                    tuple(rows),
                    shard.lease.worker_id,
                    secrets.token_hex(8),
                )
                lent.unsent.append(portion)
                name = PortionName(portion.epoch, portion.portion)
                lent.away[name] = AwayPortion(name, set(rows))

    def _offer(self, shard: HeldShard) -> None:
        lent, portions, name = shard.lent, list(shard.lent.unsent), shard.name

        def offer() -> None:
            # A zombie would offer rows that its successor does not know to be away.
            if self._ledger.latest_epoch(name.shard_id) == name.epoch:
                for portion in portions:
                    self._ledger.portions.offer(portion)

        def offered(_: None) -> None:
            lent.unsent = []
            lent.looked_at = self._clock.now()
            count = sum(len(portion.rows) for portion in portions)
            log.info(
                "shard %05d: %d rows offered in %d portions", name.shard_id, count, len(portions)
            )

        self._send(shard, offer, offered)

    def _look(self, shard: HeldShard) -> None:
        lent, hungry = shard.lent, self._feed.hungry
        away = {name: set(portion.left) for name, portion in lent.away.items()}
        points = {name: list(portion.points) for name, portion in lent.away.items()}
        known = frozenset(lent.known)
        self._looking = True

        def look() -> _Look:
            return self._seen(shard.name, shard.lease.worker_id, away, points, known, hungry)

        def looked(look: _Look) -> None:
            self._looking = False
            lent.looked_at = self._clock.now()
            if self._feed.held.get(shard.name) is shard:
                lent.known |= look.known
                for found in look.found:
                    self._take_in(shard, found)

        self._send(shard, look, looked)

    def _take_in(self, shard: HeldShard, found: _Found) -> None:
        portion = shard.lent.away[found.name]
        for row in portion.learn(found.points):
            self._feed.rows += shard.collect(row)
        if found.over:
            del shard.lent.away[found.name]
            shard.lent.helpers += found.attempts
            self._feed.rows += shard.take_home(portion.left, portion.progress)
            if portion.left:
                log.info("shard %05d: %d rows taken back", shard.shard.id, len(portion.left))

    # In another thread.

    def _seen(
        self,
        owner: AttemptName,
        worker_id: str,
        away: Mapping[PortionName, set[int]],
        before: Mapping[PortionName, list[Checkpoint]],
        known: frozenset[str],
        hungry: bool,
    ) -> _Look:
        portions, shard_id = self._ledger.portions, owner.shard_id
        claims = portions.claims(shard_id)
        points = portions.points(shard_id, known)
        back: set[PortionName] = set()
        sessions: dict[str, Session | None] = {}
        for name, left in away.items():
            takes = claims.takes.get(name, 0)
            if _is_answered(left, _of(name, points)):
                continue
            newest = portions.take(AttemptName(shard_id, *name, takes)) if takes else None
            if newest is not None and newest.owner_epoch is not None:
                back.add(name)
                continue
            # Of those that nobody came for, one at a time, as the own rows run short.
            free = self._holders.judge(newest, sessions)[0] if takes else hungry
            if free:
                take = Take(
                    *(shard_id, *name, takes + 1),
                    worker_id=worker_id,
                    nonce=secrets.token_hex(8),
                    claimed_at=self._clock.timestamp(),
                    owner_epoch=owner.epoch,
                )
                if portions.claim(take):
                    back.add(name)
                hungry = hungry and takes > 0
        if back:
            # What was saved until the take: nobody else goes on from it any more.
            points |= portions.points(shard_id, known | points.keys())
        found = []
        for name in away:
            new = _of(name, points)
            is_over = name in back or _is_answered(away[name], new)
            attempts: Sequence[Attempt] = ()
            if is_over:
                saved = AwayPortion(name, set(), [*before[name], *new]).progress
                # A take may be younger than the list of them, and its checkpoint read all the same.
                takes = max(claims.takes.get(name, 0), 0, *(a.take for a in saved.attempts))
                attempts = self._ledger.attempts_on(shard_id, name, takes, saved.attempts)
            found.append(_Found(name, new, is_over, attempts))
        return _Look(frozenset(points), found)

    def _send(self, shard: HeldShard, errand: Callable[[], T], then: Callable[[T], None]) -> None:
        lent = shard.lent
        lent.busy = True

        def back(result: T) -> None:
            lent.busy = False
            self._patience.answered()
            then(result)

        def failed(problem: Exception) -> None:
            lent.busy = self._looking = False
            lent.store_after = self._clock.now() + AGAIN_SECONDS
            self._patience.bear(problem)

        self._errands.send(errand, back, failed)


def _is_answered(rows: set[int], points: Sequence[Checkpoint]) -> bool:
    return rows <= {row.row for point in points for row in point.finished}


def _of(name: PortionName, points: Mapping[str, Checkpoint]) -> list[Checkpoint]:
    return [p for p in points.values() if (p.epoch, p.attempt.portion) == name]
