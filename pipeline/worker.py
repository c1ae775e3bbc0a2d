"""One worker's life: load, claim, generate, checkpoint, publish, drain (DESIGN §5)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from pipeline.claims import Claimer, NothingLeft, Opened
from pipeline.core.checkpoint import Attempt, AttemptEnd, Checkpoint
from pipeline.core.errors import Interrupted, LeaseLost, StoreUnavailable
from pipeline.core.layout import part_key
from pipeline.core.manifest import Provenance, shard_manifest
from pipeline.core.money import MICROS_PER_SECOND, Node, NodePrice
from pipeline.core.ports import Clock, Engine, InterruptionNotice
from pipeline.core.session import Session, State
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.held import HeldShard
from pipeline.ledger import Ledger
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")

_POLL_SECONDS = 0.5
_AWAY_AT_DRAIN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`interruptions` are exceptions that mean "stop soon" when they are raised into the loop."""

    worker_id: str
    output_uri: str
    chunk_rows: int
    chunk_seconds: float
    lease_seconds: float
    node: Node
    price: NodePrice
    store_patience_seconds: float = 600.0
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    @property
    def beat_seconds(self) -> float:
        return self.lease_seconds / 4


@dataclass(frozen=True, slots=True)
class WorkerReport:
    worker_id: str
    shards_published: int
    rows: int
    decoded: int


class Worker:
    """Drains a run's shards until none can be claimed. `run` may be called once."""

    def __init__(
        self,
        settings: WorkerSettings,
        provenance: Callable[[Engine], Provenance],
        ledger: Ledger,
        claimer: Claimer,
        load_engine: Callable[[], Engine],
        clock: Clock,
        notice: InterruptionNotice,
        executor: Executor,
        boot_seconds: float = 0.0,
    ) -> None:
        self._settings = settings
        self._provenance_of = provenance
        self._provenance: Provenance
        self._ledger = ledger
        self._claimer = claimer
        self._load_engine = load_engine
        self._clock = clock
        self._notice = notice
        self._errands = Errands(executor)
        self._sheet = Timesheet(clock.now(), round(boot_seconds * MICROS_PER_SECOND))
        self._session = Session(
            worker_id=settings.worker_id,
            beat=0,
            state="load",
            started_at=clock.timestamp(),
            beat_at=clock.timestamp(),
            node=settings.node,
            price=settings.price,
            buckets=self._sheet.buckets,
        )
        self._feed: Feed | None = None
        self._published = 0
        self._claiming = False
        self._claim_after = 0.0
        self._claim_failing_since: float | None = None
        self._nothing_left = False
        self._beating = False
        self._beat_after = 0.0
        self._store_answered = clock.now()

    def run(self) -> WorkerReport:
        """Raises `Interrupted` after a drain; any other error ends the session as failed.

        However it ends, what was finished is saved before, as far as the store allows.
        """
        engine: Engine | None = None
        stops: tuple[type[BaseException], ...] = (Interrupted, *self._settings.interruptions)
        try:
            self._ledger.beat(self._session)
            engine = self._load_engine()
            self._provenance = self._provenance_of(engine)
            self._sheet.pass_to(self._clock.now(), "load")
            self._feed = Feed(engine, self._errands, self._clock, self._sheet)
            self._work(self._feed)
            self._end("ended")
        except stops as reason:
            log.warning("worker %s drains: %s", self._settings.worker_id, reason)
            self._drain("drained")
            self._end("ended")
            if isinstance(reason, Interrupted):
                raise
            raise Interrupted(f"stopped by {type(reason).__name__}") from reason
        except Exception as problem:
            log.error("worker %s stops: %s", self._settings.worker_id, problem)
            self._drain("lost")
            self._end("failed", problem)
            raise
        finally:
            if engine is not None:
                engine.close()
        return WorkerReport(
            self._settings.worker_id, self._published, self._feed.rows, self._sheet.decoded
        )

    def _work(self, feed: Feed) -> None:
        while not (reason := self._notice.pending()):
            self._errands.collect()
            self._beat(feed)
            self._claim_ahead(feed)
            feed.top_up()
            if feed.running:
                feed.step()
            elif self._nothing_left and not feed.held and not self._errands:
                return
            else:
                self._wait(feed)
            self._save_what_is_due(feed)
            self._publish_what_is_complete(feed)
        raise Interrupted(reason, hint="`spotmill resume` goes on from here")

    def _wait(self, feed: Feed) -> None:
        if self._errands:
            self._errands.wait(_POLL_SECONDS)
        else:
            self._clock.sleep(_POLL_SECONDS)
        self._sheet.pass_to(self._clock.now(), "idle", next(iter(feed.held.values()), None))

    # Claims.

    def _claim_ahead(self, feed: Feed) -> None:
        """Claim the next shard before the ones in hand run dry."""
        if self._claiming or not feed.hungry or self._clock.now() < self._claim_after:
            return
        self._claiming = True

        def claimed(result: Opened | NothingLeft | None) -> None:
            self._claiming = False
            self._claim_failing_since = None
            self._store_answered = self._clock.now()
            # Asked again every few seconds while rows run short, so never old when it decides.
            self._nothing_left = isinstance(result, NothingLeft)
            if isinstance(result, Opened):
                feed.held[result.shard.id] = self._hold(result)
            else:
                self._claim_after = self._clock.now() + self._poll_seconds

        def failed(problem: Exception) -> None:
            self._claiming = False
            self._claim_after = self._clock.now() + self._poll_seconds
            # Claims read inputs, which may be away for good while the output's store answers.
            self._claim_failing_since = self._claim_failing_since or self._clock.now()
            if self._clock.now() - self._claim_failing_since > self._patience_seconds:
                raise problem
            self._bear(problem)

        self._errands.send(self._claimer.claim, claimed, failed)

    @property
    def _poll_seconds(self) -> float:
        return max(_POLL_SECONDS, self._settings.beat_seconds / 2)

    def _hold(self, opened: Opened) -> HeldShard:
        held = HeldShard(
            opened.shard, opened.lease, opened.rows, opened.progress, self._clock.now()
        )
        log.info(
            "claimed shard %05d, epoch %d: %d rows, %d of them done before",
            opened.shard.id,
            opened.lease.epoch,
            held.rows.rows,
            len(held.finished),
        )
        return held

    def _bear(self, problem: Exception) -> None:
        """A store that is away is waited for, up to a bound; anything else ends the worker."""
        if not isinstance(problem, StoreUnavailable):
            raise problem
        away = self._clock.now() - self._store_answered
        log.warning("store away for %.0f s: %s", away, problem)
        if away > self._patience_seconds:
            raise problem

    @property
    def _patience_seconds(self) -> float:
        return self._settings.store_patience_seconds

    # Making things durable.

    def _save_what_is_due(self, feed: Feed) -> None:
        now = self._clock.now()
        for shard in list(feed.held.values()):
            due = (
                len(shard.unsaved) >= self._settings.chunk_rows
                or now - shard.saved_at >= self._settings.chunk_seconds
            )
            if due and shard.begun and shard.saving is None and not shard.complete:
                self._save(feed, shard)

    def _save(self, feed: Feed, shard: HeldShard) -> None:
        point = self._next_checkpoint(feed, shard, "lost")
        shard.saving, shard.unsaved = point.finished, []
        shard.saved_at = self._clock.now()

        def saved(_: None) -> None:
            shard.saving = None
            self._store_answered = self._clock.now()

        def failed(problem: Exception) -> None:
            shard.saving, shard.unsaved = None, [*point.finished, *shard.unsaved]
            if isinstance(problem, LeaseLost):
                feed.drop(shard)
            else:
                self._bear(problem)

        self._errands.send(lambda: self._ledger.checkpoint(point), saved, failed)

    def _next_checkpoint(self, feed: Feed, shard: HeldShard, end: AttemptEnd) -> Checkpoint:
        decoded, tokens = feed.settle()
        shard.seq += 1
        return Checkpoint(
            shard_id=shard.shard.id,
            epoch=shard.lease.epoch,
            seq=shard.seq,
            nonce=shard.lease.nonce,
            finished=(*(shard.saving or ()), *shard.unsaved),
            in_flight=shard.in_flight(tokens),
            attempt=self._attempt(shard, decoded[shard.shard.id], end),
        )

    def _attempt(self, shard: HeldShard, decoded: int, end: AttemptEnd) -> Attempt:
        node, price = self._settings.node, self._settings.price
        return shard.attempt(decoded, node, price, self._clock.timestamp(), end)

    def _publish_what_is_complete(self, feed: Feed) -> None:
        for shard in list(feed.held.values()):
            if shard.complete and shard.saving is None and not shard.publishing:
                self._publish(feed, shard)

    def _publish(self, feed: Feed, shard: HeldShard) -> None:
        decoded, _ = feed.settle()
        attempts = (
            *shard.before.attempts,
            self._attempt(shard, decoded[shard.shard.id], "published"),
        )
        shard_id = shard.shard.id
        shard.publishing = True

        def publish() -> bool:
            rows = [shard.finished[row] for row in range(shard.rows.rows)]
            uri = self._settings.output_uri + part_key(self._ledger.run_id, shard_id)
            document = shard_manifest(self._provenance, shard.shard, uri, rows, attempts)
            manifest = json.dumps(document, ensure_ascii=False).encode()
            if self._ledger.publish(shard_id, shard.rows.encode_part(rows, manifest)):
                self._ledger.project_manifest(shard_id, manifest)
                return True
            # An earlier try may have been applied, its answer lost: then that copy counts, and
            # whoever needs its manifest projects it.
            owner = (shard.lease.worker_id, shard.lease.epoch)
            return shard.publish_in_doubt and self._ledger.published_by(shard_id) == owner

        def published(won: bool) -> None:
            self._store_answered = self._clock.now()
            if won:
                self._published += 1
                # It may have been dropped while this was on its way: published all the same.
                feed.held.pop(shard_id, None)
                log.info("published shard %05d: %d rows", shard_id, shard.rows.rows)
            else:
                feed.drop(shard)
                log.warning("shard %05d was published by another worker", shard_id)

        def failed(problem: Exception) -> None:
            shard.publishing, shard.publish_in_doubt = False, True
            self._bear(problem)

        self._errands.send(publish, published, failed)

    # The session.

    def _beat(self, feed: Feed) -> None:
        """Say that this worker lives, and look whether what it holds is still its own."""
        if self._beating or self._clock.now() < self._beat_after:
            return
        self._beating = True
        self._beat_after = self._clock.now() + self._settings.beat_seconds
        session = self._next_session("work")
        held = [shard.lease for shard in feed.held.values()]

        def beat() -> set[int]:
            self._ledger.beat(session)
            newest = {lease.shard_id: self._ledger.latest_epoch(lease.shard_id) for lease in held}
            return {lease.shard_id for lease in held if newest[lease.shard_id] > lease.epoch}

        def beaten(lost: set[int]) -> None:
            self._beating = False
            self._store_answered = self._clock.now()
            for shard in [feed.held[s] for s in lost if s in feed.held]:
                log.warning("shard %05d has a newer owner: dropped", shard.shard.id)
                feed.drop(shard)

        def failed(problem: Exception) -> None:
            self._beating = False
            self._bear(problem)

        self._errands.send(beat, beaten, failed)

    def _next_session(self, state: State, problem: Exception | None = None) -> Session:
        feed = self._feed
        decoded = feed.settle()[0] if feed else {}
        held = feed.held if feed else {}
        self._session = replace(
            self._session,
            beat=self._session.beat + 1,
            state=state,
            beat_at=self._clock.timestamp(),
            buckets=self._sheet.buckets,
            shards={s: shard.account(decoded[s]) for s, shard in held.items()},
            rows=feed.rows if feed else 0,
            decoded=self._sheet.decoded,
            error=None if problem is None else str(problem) or repr(problem),
            error_kind=None if problem is None else type(problem).__name__,
        )
        return self._session

    def _drain(self, end: AttemptEnd) -> None:
        """Save finished rows and tokens in flight of every held shard, then let them all go."""
        if self._feed is None:
            return
        try:
            self._errands.finish(_AWAY_AT_DRAIN_SECONDS)
        except Exception as problem:
            log.warning("while draining: %s", problem)
        for shard in list(self._feed.held.values()):
            try:
                self._ledger.checkpoint(self._next_checkpoint(self._feed, shard, end))
                self._feed.abort(shard)
            except Exception as problem:
                log.warning("shard %05d: last checkpoint not saved: %s", shard.shard.id, problem)

    def _end(self, state: State, problem: Exception | None = None) -> None:
        self._sheet.pass_to(self._clock.now(), "drain")
        try:
            self._ledger.beat(self._next_session(state, problem))
        except Exception as failure:
            log.warning("last beat not saved, its leases have to run out: %s", failure)
