"""Which shard a worker takes next, and what it has to know to go on with it."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.checkpoint import Progress
from pipeline.core.lease import Lease
from pipeline.core.portion import Claims, Portion
from pipeline.core.ports import Clock, InputSource, ShardInput
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.holders import Holders
from pipeline.ledger import Ledger
from pipeline.lent import Lent, lent_before
from pipeline.portion_claims import PortionClaims, TakenPortion


@dataclass(frozen=True, slots=True)
class Opened:
    """A shard that is this worker's: its rows are read, and its past is known; `lent` are those
    that other workers still have. Or a `portion` of another's shard, in its `take`-th hands."""

    shard: Shard
    lease: Lease
    rows: ShardInput
    progress: Progress
    lent: Lent = field(default_factory=Lent)
    portion: Portion | None = None
    take: int = 0


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """Every shard is published or held by a worker that was seen alive, and shares no rows."""


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
        self._holders = Holders(ledger, clock, lease_seconds)
        self._portions = PortionClaims(
            ledger, source, self._holders, clock, worker_id, lease_seconds
        )
        self._mine: set[int] = set()
        self._unopened: tuple[Shard, Lease] | None = None

    def claim(self) -> Opened | NothingLeft | None:
        """The next shard, or a portion of one where all are held; or NothingLeft; or None: ask
        again, some holder may yet prove dead, or share its rows."""
        if self._unopened is not None:
            return self._open(*self._unopened)
        published = self._ledger.published()
        claims = self._ledger.portions.claims_by_shard()
        self._shards = [shard for shard in self._shards if shard.id not in published]
        undecided = False
        sessions: dict[str, Session | None] = {}
        holders: dict[int, Lease] = {}
        for shard in self._shards:
            # A shard this worker held before is either in its hands or taken from it for a reason.
            if shard.id in self._mine:
                continue
            epoch = claims[shard.id].epoch if shard.id in claims else 0
            holder = self._ledger.lease(shard.id, epoch) if epoch else None
            if holder is not None and holder.worker_id == self._worker_id:
                # Our claim succeeded, though its answer never reached us.
                return self._open(shard, holder)
            free, alive = self._holders.judge(holder, sessions)
            # Its holder may have published it, and ended, since the parts were listed.
            if free and holder is not None and shard.id in self._ledger.published():
                continue
            if free and (opened := self._take(shard, epoch + 1)):
                return opened
            undecided |= free or not alive
            if holder is not None and not free:
                holders[shard.id] = holder
        if (opened := self._help(holders, claims, sessions)) is not None:
            return opened
        waits = self._portions.wait_for_offers(claims, _spare(holders, sessions))
        return None if undecided or waits else NothingLeft()

    def _help(
        self,
        holders: Mapping[int, Lease],
        claims: Mapping[int, Claims],
        sessions: dict[str, Session | None],
    ) -> Opened | None:
        shards = [shard for shard in self._shards if shard.id in holders]
        taken = self._portions.take(shards, claims, sessions)
        return None if taken is None else _of_portion(taken)

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
        lent = lent_before(self._ledger, shard.id, lease.epoch, progress)
        opened = Opened(shard, lease, self._source.open(shard), progress, lent)
        self._unopened = None
        return opened


def _of_portion(taken: TakenPortion) -> Opened:
    take = taken.take
    lease = Lease(take.shard_id, take.epoch, take.worker_id, take.nonce, take.claimed_at)
    return Opened(
        taken.shard, lease, taken.rows, taken.progress, portion=taken.portion, take=take.take
    )


def _spare(
    holders: Mapping[int, Lease], sessions: Mapping[str, Session | None]
) -> dict[tuple[int, int], int]:
    """By shard and epoch, the rows that its holder said it would share."""
    spare: dict[tuple[int, int], int] = {}
    for shard_id, lease in holders.items():
        session = sessions.get(lease.worker_id)
        account = None if session is None else session.shards.get(shard_id)
        if account is not None and account.epoch == lease.epoch:
            spare[shard_id, lease.epoch] = account.spare
    return spare
