"""The shards a worker takes: claimed beside the engine's loop, before those in hand run dry."""

from __future__ import annotations

import logging

from pipeline.arranging import arranged
from pipeline.claims import Claimer, NothingLeft, Opened
from pipeline.core.ports import Clock
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.held import HeldShard
from pipeline.patience import Patience
from pipeline.worker_settings import WorkerSettings

log = logging.getLogger("spotmill.worker")

_LEAST_SECONDS = 0.5


class Desk:
    """One claim at a time. One thread calls it. What is claimed before there is a feed waits.

    `distrusts_engine` is set by a shard whose workers vanished, and taken back by whoever heeds it.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        claimer: Claimer,
        errands: Errands,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self.nothing_left = False
        self.distrusts_engine = False
        self._settings = settings
        self._claimer = claimer
        self._errands = errands
        self._clock = clock
        self._patience = patience
        self._feed: Feed | None = None
        self._waiting: list[HeldShard] = []
        self._claiming = False
        self._claim_after = 0.0
        self._failing_since: float | None = None

    def serve(self, feed: Feed) -> None:
        """From now on, what is claimed goes there."""
        self._feed = feed
        for held in self._waiting:
            _hand_over(held, feed)
        self._waiting.clear()

    def claim_when_hungry(self, feed: Feed) -> None:
        """Send for the next shard, if `feed` will soon need one and none is on its way."""
        if not self._claiming and self._clock.now() >= self._claim_after and feed.hungry:
            self.claim()

    def claim(self) -> None:
        """Send for a shard."""
        self._claiming = True

        def claimed(result: HeldShard | NothingLeft | None) -> None:
            self._claiming = False
            self._failing_since = None
            self._patience.answered()
            # Asked again every few seconds while rows run short, so never old when it decides.
            self.nothing_left = isinstance(result, NothingLeft)
            if isinstance(result, HeldShard):
                self._take(result)
            else:
                self._ask_later()

        def failed(problem: Exception) -> None:
            self._claiming = False
            # It may have claimed a shard, and failed to open it.
            self.nothing_left = False
            self._ask_later()
            # Claims read inputs, which may be away for good while the output's store answers.
            self._failing_since = self._failing_since or self._clock.now()
            if self._clock.now() - self._failing_since > self._patience.seconds:
                raise problem
            self._patience.bear(problem)

        self._errands.send(self._claim, claimed, failed)

    def _claim(self) -> HeldShard | NothingLeft | None:
        """In another thread; nobody else knows of the shard yet."""
        found = self._claimer.claim()
        if not isinstance(found, Opened):
            return found
        held = HeldShard(
            found.shard,
            found.lease,
            found.rows,
            found.progress,
            self._clock.now(),
            found.lent,
            found.portion,
            found.take,
        )
        # Condemned by what a predecessor saw, they need no engine.
        held.quarantine()
        if held.unarranged:
            held.take_arrangement(arranged(held, held.unarranged.popleft()))
        return held

    def _ask_later(self) -> None:
        seconds = max(_LEAST_SECONDS, self._settings.beat_seconds / 2)
        self._claim_after = self._clock.now() + seconds

    def _take(self, held: HeldShard) -> None:
        self.distrusts_engine |= held.before.ended_silently
        log.info(
            "claimed %sshard %05d, epoch %d: %d rows, %d of them done before",
            f"portion {held.portion.portion} of " if held.portion else "",
            held.shard.id,
            held.lease.epoch,
            held.row_count,
            len(held.finished) - held.rows_done,
        )
        if self._feed is None:
            self._waiting.append(held)
        else:
            _hand_over(held, self._feed)


def _hand_over(held: HeldShard, feed: Feed) -> None:
    feed.held[held.name] = held
    feed.rows += held.rows_done
