"""Which portion of another worker's shard a worker takes when no shard is left (decision 019)."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.core.checkpoint import Progress, fold, in_order
from pipeline.core.portion import AttemptName, Claims, Portion, PortionName, Take
from pipeline.core.ports import Clock, InputSource, ShardInput
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.holders import Holders
from pipeline.ledger import Ledger

_ANSWER_BEATS, _ANSWER_SECONDS = 1.5, 2.0
"""How long an answer is waited for: the owner sees an ask at its next beat, and the store takes a
while, too. The asking worker's last rows run meanwhile; after that, its GPU waits for nothing."""


@dataclass(frozen=True, slots=True)
class TakenPortion:
    """A portion that is this worker's, and what its earlier takers left."""

    shard: Shard
    portion: Portion
    take: Take
    rows: ShardInput
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Ask:
    shard_id: int
    offered: int
    at: float


class PortionClaims:
    """Takes and asks for one worker. Not for two threads at once."""

    def __init__(
        self,
        ledger: Ledger,
        source: InputSource,
        holders: Holders,
        clock: Clock,
        worker_id: str,
        lease_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._source = source
        self._holders = holders
        self._clock = clock
        self._worker_id = worker_id
        self._answer_seconds = _ANSWER_SECONDS + _ANSWER_BEATS * lease_seconds / 4
        self._mine: set[AttemptName] = set()
        self._finished: set[tuple[int, PortionName]] = set()
        self._untold: tuple[Shard, Take] | None = None
        self._ask: _Ask | None = None
        self._asks = 0
        self._refused: set[tuple[int, int]] = set()
        self._input: tuple[int, ShardInput] | None = None
        self._start = zlib.crc32(worker_id.encode())

    def take(
        self,
        shards: Sequence[Shard],
        claims: Mapping[int, Claims],
        sessions: dict[str, Session | None],
    ) -> TakenPortion | None:
        """A portion of one of these shards that nobody has any more, if there is one.

        Should reading it fail, it is this worker's all the same: the next call tries again.
        """
        if self._untold is not None:
            return self._opened(*self._untold)
        for shard in shards:
            takes = sorted(claims[shard.id].takes.items())
            # Workers begin at different places, so that they rarely race for the same portion.
            start = self._start % max(1, len(takes))
            for name, newest in (*takes[start:], *takes[:start]):
                if (shard.id, name) in self._finished:
                    continue
                take = self._next_take(shard, name, newest, sessions)
                if take is not None:
                    return self._opened(shard, take)
        self._input = None
        return None

    def wait_for_offers(
        self, claims: Mapping[int, Claims], spare: Mapping[tuple[int, int], int]
    ) -> bool:
        """Whether to stay for a portion that may be offered: asks for one where there is cause.

        `spare` are the rows that holders would share, by shard and epoch.
        """
        now = self._clock.now()
        if (ask := self._ask) is not None:
            here = claims.get(ask.shard_id, Claims())
            answered = len(here.takes) > ask.offered
            if not answered and now - ask.at < self._answer_seconds:
                return True
            self._ask = None
            if not answered:
                self._refused.add((ask.shard_id, here.epoch))
        willing = {whose: n for whose, n in spare.items() if n and whose not in self._refused}
        if not willing:
            return False
        shard_id, _ = max(willing, key=lambda whose: (willing[whose], whose))
        self._ledger.portions.ask(shard_id, self._worker_id, self._asks + 1)
        self._asks += 1
        self._ask = _Ask(shard_id, len(claims[shard_id].takes), now)
        return True

    def _next_take(
        self,
        shard: Shard,
        name: PortionName,
        newest: int,
        sessions: dict[str, Session | None],
    ) -> Take | None:
        if newest:
            held = self._ledger.portions.take(AttemptName(shard.id, *name, newest))
            if held is None or held.owner_epoch is not None:
                return None
            if held.worker_id == self._worker_id:
                # Our take succeeded, though its answer never reached us; unless we had it.
                return None if held.name in self._mine else held
            free, _ = self._holders.judge(held, sessions)
            if not free or self._is_finished(shard, name):
                return None
        take = Take(
            *(shard.id, *name, newest + 1),
            worker_id=self._worker_id,
            nonce=secrets.token_hex(8),
            claimed_at=self._clock.timestamp(),
        )
        return take if self._ledger.portions.claim(take) else None

    def _is_finished(self, shard: Shard, name: PortionName) -> bool:
        """Who was done with a portion is gone as well as who died on it: what it saved tells."""
        portion = self._ledger.portions.portion(shard.id, name)
        done = self._past(shard, name).finished
        finished = portion is None or all(row in done for row in portion.rows)
        if finished:
            self._finished.add((shard.id, name))
        return finished

    def _past(self, shard: Shard, name: PortionName) -> Progress:
        return fold(in_order(self._ledger.portions.points_of(shard.id, name)))

    def _opened(self, shard: Shard, take: Take) -> TakenPortion | None:
        self._mine.add(take.name)
        self._untold = (shard, take)
        name = PortionName(take.epoch, take.portion)
        portion = self._ledger.portions.portion(shard.id, name)
        if portion is None:
            return None
        progress = Progress()
        if take.take > 1:
            progress = self._past(shard, name)
            attempts = self._ledger.attempts_on(shard.id, name, take.take - 1, progress.attempts)
            progress = replace(progress, attempts=tuple(attempts))
        if self._input is None or self._input[0] != shard.id:
            self._input = (shard.id, self._source.open(shard))
        self._untold = None
        return TakenPortion(shard, portion, take, self._input[1], progress)
