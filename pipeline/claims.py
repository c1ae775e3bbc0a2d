"""Which shard a worker takes next, and what it has to know to go on with it."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.checkpoint import Progress
from pipeline.core.lease import BeatWatch, Lease, may_claim
from pipeline.core.ports import Clock, InputSource, ShardInput
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Opened:
    """A shard that is this worker's: its rows are read, and its past is known."""

    shard: Shard
    lease: Lease
    rows: ShardInput
    progress: Progress


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """Every shard is published or held by a worker that was seen alive."""


class Claimer:
    """Claims for one worker. Not for two threads at once; remembers whose beats it saw move."""

    def __init__(
        self,
        shards: Sequence[Shard],
        ledger: Ledger,
        source: InputSource,
        clock: Clock,
        worker_id: str,
        lease_seconds: float,
    ) -> None:
        # Workers begin at different places, so that they rarely race for the same shard.
        start = zlib.crc32(worker_id.encode()) % max(1, len(shards))
        self._shards = [*shards[start:], *shards[:start]]
        self._ledger = ledger
        self._source = source
        self._clock = clock
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._watch = BeatWatch()
        self._mine: set[int] = set()
        self._unopened: tuple[Shard, Lease] | None = None

    def claim(self) -> Opened | NothingLeft | None:
        """The next shard, or NothingLeft, or None: ask again, some holder may yet prove dead."""
        if self._unopened is not None:
            return self._open(*self._unopened)
        published = self._ledger.published()
        epochs = self._ledger.latest_epochs()
        self._shards = [shard for shard in self._shards if shard.id not in published]
        undecided = False
        sessions: dict[str, Session | None] = {}
        for shard in self._shards:
            # A shard this worker held before is either in its hands or taken from it for a reason.
            if shard.id in self._mine:
                continue
            epoch = epochs.get(shard.id, 0)
            holder = self._ledger.lease(shard.id, epoch) if epoch else None
            if holder is not None and holder.worker_id == self._worker_id:
                # Our claim succeeded, though its answer never reached us.
                return self._open(shard, holder)
            free, alive = self._judge(holder, sessions)
            # Its holder may have published it, and ended, since the parts were listed.
            if free and holder is not None and shard.id in self._ledger.published():
                continue
            if free and (opened := self._take(shard, epoch + 1)):
                return opened
            undecided |= free or not alive
        return None if undecided else NothingLeft()

    def _judge(
        self, holder: Lease | None, sessions: dict[str, Session | None]
    ) -> tuple[bool, bool]:
        if holder is None:
            return True, False
        worker = holder.worker_id
        if worker not in sessions:
            sessions[worker] = self._ledger.session(worker)
        session = sessions[worker]
        now = self._clock.now()
        self._watch.observe(worker, -1 if session is None else session.beat, now)
        free = may_claim(
            holder,
            holder_over=session is not None and session.over,
            silent_for=self._watch.still_for(worker, now),
            lease_seconds=self._lease_seconds,
        )
        return free, self._watch.seen_alive(worker)

    def _take(self, shard: Shard, epoch: int) -> Opened | None:
        lease = Lease(
            shard.id, epoch, self._worker_id, secrets.token_hex(8), self._clock.timestamp()
        )
        return self._open(shard, lease) if self._ledger.claim(lease) else None

    def _open(self, shard: Shard, lease: Lease) -> Opened:
        # If reading fails, the lease is ours all the same: the next call tries to open it again.
        self._mine.add(shard.id)
        self._unopened = (shard, lease)
        progress = self._ledger.progress(shard.id, lease.epoch)
        opened = Opened(shard, lease, self._source.open(shard), progress)
        self._unopened = None
        return opened
