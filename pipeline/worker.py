"""One worker's life: load, claim, generate, checkpoint, publish, drain (DESIGN §5)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.claims import Claimer, NothingLeft, Opened
from pipeline.core.checkpoint import AttemptEnd
from pipeline.core.errors import Interrupted
from pipeline.core.manifest import Provenance
from pipeline.core.money import MICROS_PER_SECOND
from pipeline.core.ports import Clock, Engine, InterruptionNotice
from pipeline.core.session import Session, State
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.held import HeldShard
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.saver import Saver
from pipeline.timesheet import Timesheet
from pipeline.worker_settings import WorkerSettings

log = logging.getLogger("spotmill.worker")

_POLL_SECONDS = 0.5


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
        errands: Errands,
        boot_seconds: float = 0.0,
    ) -> None:
        self._settings = settings
        self._provenance_of = provenance
        self._ledger = ledger
        self._claimer = claimer
        self._load_engine = load_engine
        self._clock = clock
        self._notice = notice
        self._errands = errands
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
        self._saver: Saver | None = None
        self._claiming = False
        self._claim_after = 0.0
        self._claim_failing_since: float | None = None
        self._nothing_left = False
        self._beating = False
        self._beat_after = 0.0
        self._patience = Patience(clock, settings.store_patience_seconds)

    def run(self) -> WorkerReport:
        """Raises `Interrupted` after a drain; any other error ends the session as failed.

        However it ends, what was finished is saved before, as far as the store allows.
        """
        engine: Engine | None = None
        stops: tuple[type[BaseException], ...] = (Interrupted, *self._settings.interruptions)
        try:
            self._ledger.beat(self._session)
            engine = self._load_engine()
            self._sheet.pass_to(self._clock.now(), "load")
            feed, saver = self._begin(engine)
            self._work(feed, saver)
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
            self._settings.worker_id, saver.published, feed.rows, self._sheet.decoded
        )

    def _begin(self, engine: Engine) -> tuple[Feed, Saver]:
        self._patience.answered()
        self._feed = Feed(engine, self._errands, self._clock, self._sheet)
        self._saver = Saver(
            self._settings,
            self._provenance_of(engine),
            self._ledger,
            self._feed,
            self._errands,
            self._clock,
            self._patience,
        )
        return self._feed, self._saver

    def _work(self, feed: Feed, saver: Saver) -> None:
        while not (notice := self._notice.pending()):
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
            saver.save_what_is_due()
            saver.publish_what_is_complete()
        raise Interrupted(notice.reason, hint="`spotmill resume` goes on from here")

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
            self._patience.answered()
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
            if (
                self._clock.now() - self._claim_failing_since
                > self._settings.store_patience_seconds
            ):
                raise problem
            self._patience.bear(problem)

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

    def _drain(self, end: AttemptEnd) -> None:
        if self._saver is not None:
            self._saver.drain(end)

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
            self._patience.answered()
            for shard in [feed.held[s] for s in lost if s in feed.held]:
                log.warning("shard %05d has a newer owner: dropped", shard.shard.id)
                feed.drop(shard)

        def failed(problem: Exception) -> None:
            self._beating = False
            self._patience.bear(problem)

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

    def _end(self, state: State, problem: Exception | None = None) -> None:
        self._sheet.pass_to(self._clock.now(), "drain")
        try:
            self._ledger.beat(self._next_session(state, problem))
        except Exception as failure:
            log.warning("last beat not saved, its leases have to run out: %s", failure)
