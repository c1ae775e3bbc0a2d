"""What a worker makes durable: checkpoints of the shards in hand, and their publication."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pipeline.core.checkpoint import Attempt, AttemptEnd, Checkpoint
from pipeline.core.errors import LeaseLost
from pipeline.core.layout import part_key
from pipeline.core.manifest import Provenance, shard_manifest
from pipeline.core.portion import AttemptName
from pipeline.core.ports import Clock
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.held import HeldShard
from pipeline.ledger import Ledger
from pipeline.patience import AGAIN_SECONDS, Patience
from pipeline.superseded import as_they_ended
from pipeline.worker_settings import WorkerSettings

log = logging.getLogger("spotmill.worker")

Decoded: TypeAlias = Mapping[AttemptName, int]
InFlight: TypeAlias = Mapping[str, Sequence[int]]
_LATE_SAVES = 8


class Saver:
    """Saves beside the engine's loop, for the shards that `feed` holds. One thread calls it."""

    def __init__(
        self,
        settings: WorkerSettings,
        provenance: Callable[[], Provenance],
        ledger: Ledger,
        feed: Feed,
        errands: Errands,
        clock: Clock,
        patience: Patience,
    ) -> None:
        self.published = 0
        self._settings = settings
        self._provenance = provenance
        self._ledger = ledger
        self._feed = feed
        self._errands = errands
        self._clock = clock
        self._patience = patience
        self._save_seconds: deque[float] = deque(maxlen=_LATE_SAVES)

    @property
    def slowest_save_seconds(self) -> float:
        """How long one of the latest saves took, until the loop knew; infinite when one failed, or
        none was made."""
        return max(self._save_seconds, default=math.inf)

    @property
    def full(self) -> bool:
        """Whether more is unsaved than may be: the store is away, and the engine has to wait."""
        unsaved = sum(
            len(shard.unsaved) + (len(shard.saving.finished) if shard.saving else 0)
            for shard in self._feed.held.values()
        )
        return unsaved >= self._settings.buffer_rows

    def save_everything(self) -> None:
        """Save now, whatever is due or not."""
        for shard in self._feed.held.values():
            shard.saved_at = -math.inf
        self.save_what_is_due()

    def save_what_is_due(self) -> None:
        now = self._clock.now()
        if due := [shard for shard in self._feed.held.values() if self._is_due(shard, now)]:
            # Once for all of them: it looks at every token in flight.
            decoded, tokens = self._feed.settle()
            for shard in due:
                self._save(shard, decoded, tokens)

    def _is_due(self, shard: HeldShard, now: float) -> bool:
        due = (
            len(shard.unsaved) >= self._settings.chunk_rows
            or now - shard.saved_at >= self._settings.chunk_seconds
        )
        due &= now >= shard.store_after
        return due and shard.begun and shard.saving is None and not shard.complete

    def _save(
        self, shard: HeldShard, decoded: Decoded, tokens: InFlight, end: AttemptEnd = "lost"
    ) -> None:
        point = self._next_checkpoint(shard, end, decoded, tokens)
        shard.saving, shard.unsaved, shard.unsaved_strikes = point, [], []
        sent_at = shard.saved_at = self._clock.now()

        def saved(_: None) -> None:
            shard.saving = None
            self._save_seconds.append(self._clock.now() - sent_at)
            self._patience.answered()
            if end == "drained":
                self._feed.hand_over(shard)

        def failed(problem: Exception) -> None:
            shard.saving = None
            self._save_seconds.append(math.inf)
            shard.unsaved = [*point.finished, *shard.unsaved]
            shard.unsaved_strikes = [*point.strikes, *shard.unsaved_strikes]
            if isinstance(problem, LeaseLost):
                self._feed.drop(shard)
            else:
                self._bear(shard, problem)

        self._errands.send(lambda: self._ledger.checkpoint(point), saved, failed)

    def _bear(self, shard: HeldShard, problem: Exception) -> None:
        shard.store_after = self._clock.now() + AGAIN_SECONDS
        self._patience.bear(problem)

    def _next_checkpoint(
        self, shard: HeldShard, end: AttemptEnd, decoded: Decoded, tokens: InFlight
    ) -> Checkpoint:
        shard.seq += 1
        # Only at a drain can one be away still: then nobody knows whether it arrives.
        saving = shard.saving
        return Checkpoint(
            shard_id=shard.shard.id,
            epoch=shard.lease.epoch,
            seq=shard.seq,
            nonce=shard.lease.nonce,
            finished=(*(saving.finished if saving else ()), *shard.unsaved),
            in_flight=shard.in_flight(tokens),
            attempt=self._attempt(shard, decoded[shard.name], end),
            strikes=(*(saving.strikes if saving else ()), *shard.unsaved_strikes),
        )

    def _attempt(self, shard: HeldShard, decoded: int, end: AttemptEnd) -> Attempt:
        node, now = self._settings.node, self._clock.timestamp()
        attempt = shard.attempt(decoded, node, self._feed.price, now, end)
        return replace(attempt, lived=self._feed.lived)

    def publish_what_is_complete(self) -> None:
        now = self._clock.now()
        due = [
            shard
            for shard in self._feed.held.values()
            if shard.complete and shard.saving is None and not shard.publishing
            if now >= shard.store_after
        ]
        if due:
            decoded, tokens = self._feed.settle()
            for shard in due:
                if shard.portion is None:
                    self._publish(shard, decoded)
                else:
                    # Its rows are the owner's to publish: the last save hands them over.
                    self._save(shard, decoded, tokens, "drained")

    def _publish(self, shard: HeldShard, decoded: Decoded) -> None:
        earlier = shard.earlier_attempts
        own = self._attempt(shard, decoded[shard.name], "published")
        shard_id = shard.shard.id
        shard.publishing = True
        provenance = self._provenance()

        def publish() -> bool:
            uri = self._settings.output_uri + part_key(self._ledger.run_id, shard_id)
            document = shard_manifest(
                provenance,
                shard.shard,
                uri,
                shard.in_order(),
                [*as_they_ended(self._ledger, shard_id, earlier), own],
                shard.quarantined(),
            )
            manifest = json.dumps(document, ensure_ascii=False).encode()
            with shard.rows.part(shard.in_order(), manifest) as part:
                won = self._ledger.publish(shard_id, part)
            if won:
                self._ledger.project_manifest(shard_id, manifest)
                return True
            # An earlier try may have been applied, its answer lost: then that copy counts, and
            # whoever needs its manifest projects it.
            owner = (shard.lease.worker_id, shard.lease.epoch)
            return shard.publish_in_doubt and self._ledger.published_by(shard_id) == owner

        def published(won: bool) -> None:
            self._patience.answered()
            if won:
                self.published += 1
                # It may have been dropped while this was on its way: published all the same.
                self._feed.held.pop(shard.name, None)
                log.info("published shard %05d: %d rows", shard_id, shard.rows.rows)
            else:
                self._feed.drop(shard)
                log.warning("shard %05d was published by another worker", shard_id)

        def failed(problem: Exception) -> None:
            shard.publishing, shard.publish_in_doubt = False, True
            self._bear(shard, problem)

        self._errands.send(publish, published, failed)

    def drain(self, end: AttemptEnd, seconds: float) -> None:
        """Save finished rows and tokens in flight of every held shard, then let them all go.

        What the store has not taken after `seconds` is given up, and said so.
        """
        over_at = self._clock.now() + seconds
        self._errands.finish(seconds / 2)
        missing = set(self._feed.held)
        decoded, tokens = self._feed.settle()
        for shard in self._feed.held.values():
            point = self._next_checkpoint(shard, end, decoded, tokens)
            self._feed.let_go(shard, tokens)
            self._save_last(shard.name, point, missing)
        self._errands.finish(max(0.0, over_at - self._clock.now()))
        for name in sorted(missing):
            log.warning("shard %05d: the store did not take the last checkpoint", name.shard_id)

    def _save_last(self, name: AttemptName, point: Checkpoint, missing: set[AttemptName]) -> None:
        def saved(_: None) -> None:
            missing.discard(name)

        def failed(problem: Exception) -> None:
            log.warning("shard %05d: last checkpoint not saved: %s", point.shard_id, problem)

        self._errands.send(lambda: self._ledger.checkpoint(point), saved, failed)
