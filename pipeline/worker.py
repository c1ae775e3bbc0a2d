"""One worker's life: load, claim, generate, checkpoint, publish, drain (DESIGN §5)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.beats import Beats
from pipeline.claims import Claimer
from pipeline.core.checkpoint import AttemptEnd
from pipeline.core.errors import EngineDied, Interrupted
from pipeline.core.manifest import Provenance
from pipeline.core.ports import Clock, Engine, InterruptionNotice, PriceQuotes
from pipeline.core.session import EngineStart, State
from pipeline.departure import Departure
from pipeline.desk import Desk
from pipeline.engine_life import EngineLife
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.ledger import Ledger
from pipeline.portion_offers import PortionOffers
from pipeline.price_moves import PriceMoves
from pipeline.repricing import Repricing
from pipeline.saver import Saver
from pipeline.steering import Steering, Watching
from pipeline.worker_settings import WorkerSettings

log = logging.getLogger("spotmill.worker")

_POLL_SECONDS = 0.5
_DRAIN_SECONDS = 20.0
_END_SECONDS = 120.0
_SAVE_SECONDS = 2.0
_CLAIM_SECONDS = 10.0
"""What a claim under notice has to leave for work: its reads take a second or two of it."""
_FIRST_CLAIM_SECONDS = 2.0
"""How long a load waits to hear whether there is work; the rest of a claim goes on beside it."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    worker_id: str
    shards_published: int
    rows: int
    decoded: int


class Worker:
    """Drains a run's shards until none can be claimed. `run` may be called once.

    `beats` have told what an hour costs; all time until `run` was boot. `load_engine` is told
    whether the engine has to be a process of its own; `engine_start` says how the latest one came
    about, if that is known. `watching` is how speculation is watched, if it is; `quotes` tell what
    an hour costs, which may change.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        provenance: Callable[[Engine], Provenance],
        ledger: Ledger,
        claimer: Claimer,
        load_engine: Callable[[bool], Engine],
        clock: Clock,
        notice: InterruptionNotice,
        errands: Errands,
        beats: Beats,
        engine_start: Callable[[], EngineStart | None] = lambda: None,
        watching: Watching | None = None,
        quotes: PriceQuotes | None = None,
    ) -> None:
        self._settings = settings
        self._provenance_of = provenance
        self._ledger = ledger
        self._clock = clock
        self._departure = Departure(notice, clock)
        self._errands = errands
        self._beats = beats
        self._sheet = beats.sheet
        self._patience = beats.patience
        beats.moves = PriceMoves(quotes, clock)
        self._repricing = Repricing(beats.moves, clock, self._sheet)
        self._engine = EngineLife(
            load_engine, engine_start, self._beats, self._sheet, self._repricing
        )
        self._desk = Desk(settings, claimer, errands, clock, self._patience)
        self._steering = Steering(self._sheet, watching)
        self._saver: Saver | None = None
        self._offers: PortionOffers | None = None
        self._saved_again = False

    def run(self) -> WorkerReport:
        """Raises `Interrupted` after a drain; any other error ends the session as failed.

        However it ends, what was finished is saved before, as far as the store allows.
        """
        stops: tuple[type[BaseException], ...] = (Interrupted, *self._settings.interruptions)
        try:
            with self._beats.stood_in_for():
                self._beats.booted()
                self._go_rather_than_load()
                if self._finds_work():
                    feed, saver = self._begin(self._engine.start(self._desk.distrusts_engine))
                    self._work(feed, saver)
            # Which may take a while, and is paid for: before the beat that tells of all.
            self._engine.close()
            self._beats.end("ended", None, self._departure.seconds_left(_END_SECONDS))
        except stops as reason:
            log.warning("worker %s drains: %s", self._settings.worker_id, reason)
            self._leave("drained")
            if isinstance(reason, Interrupted):
                raise
            raise Interrupted(f"stopped by {type(reason).__name__}") from reason
        except Exception as problem:
            log.error("worker %s stops: %s", self._settings.worker_id, problem)
            self._leave("lost", problem)
            raise
        finally:
            self._engine.close()
        published, rows = (self._saver.published, self._beats.rows) if self._saver else (0, 0)
        return WorkerReport(self._settings.worker_id, published, rows, self._sheet.decoded)

    def _finds_work(self) -> bool:
        """Claim a first shard, to be read while the model loads. False when nothing is left."""
        self._desk.claim()
        self._errands.wait(_FIRST_CLAIM_SECONDS)
        self._errands.collect()
        return not self._desk.nothing_left

    def _begin(self, engine: Engine) -> tuple[Feed, Saver]:
        self._patience.answered()
        provenance = self._provenance_of(engine)
        feed = self._beats.feed = Feed(engine, self._errands, self._clock, self._sheet)
        self._offers = PortionOffers(
            self._settings, self._ledger, feed, self._errands, self._clock, self._patience
        )
        saver = self._saver = Saver(
            self._settings,
            lambda: self._steering.told(provenance),
            self._ledger,
            feed,
            self._errands,
            self._clock,
            self._patience,
        )
        self._desk.serve(feed)
        return feed, saver

    def _work(self, feed: Feed, saver: Saver) -> None:
        """Generate until nothing is left, with as many engines as it takes."""
        while True:
            try:
                # Told while an engine was loaded, nobody knows how much of the time is left.
                self._go_rather_than_load()
                if self._desk.distrusts_engine:
                    self._desk.distrusts_engine = False
                    self._engine.isolate(feed)
                elif self._steering.wants_plain:
                    self._save_before_loading(saver)
                    self._engine.go_plain(feed, self._steering.plain_loader())
                elif self._generate(feed, saver):
                    return
            except EngineDied as death:
                if self._departure.told_to_stop:
                    # Whoever stops a worker may have stopped its engine's process as well.
                    feed.leave_engine()
                else:
                    self._engine.bury(feed, death)
                    self._save_before_loading(saver)
                self._go_rather_than_load()
                self._engine.replace(feed)

    def _save_before_loading(self, saver: Saver) -> None:
        """A load takes minutes in which nothing is saved, and saves may be on their way already."""
        self._beats.loading()
        for _ in range(2):
            saver.save_everything()
            self._errands.wait(_SAVE_SECONDS)
            self._errands.collect()

    def _generate(self, feed: Feed, saver: Saver) -> bool:
        """True when nothing is left to claim or to do; False when another engine is to go on."""
        while not (self._desk.distrusts_engine or self._steering.wants_plain):
            self._heed_notice(feed, saver)
            self._errands.collect()
            self._repricing.look_after(feed)
            self._beats.beat_when_due()
            if not self._leaving:
                self._desk.claim_when_hungry(feed)
            if self._offers is not None:
                self._offers.look_after()
            feed.top_up()
            if feed.running and not saver.full:
                feed.step()
                self._steering.look(feed)
            elif self._desk.nothing_left and not feed.held and not self._errands:
                return True
            else:
                self._wait(feed)
            saver.save_what_is_due()
            saver.publish_what_is_complete()
        return False

    def _wait(self, feed: Feed) -> None:
        if self._errands:
            self._errands.wait(_POLL_SECONDS)
        else:
            self._clock.sleep(_POLL_SECONDS)
        # A process that stood still for long did not wait.
        self._beats.own_up()
        self._sheet.pass_to(self._clock.now(), "idle", next(iter(feed.held.values()), None))

    # The end.

    def _go_rather_than_load(self) -> None:
        """A model takes longer to load than a machine that goes has left."""
        self._departure.hear()
        if self._departure.certain:
            raise self._departure.interruption()

    def _heed_notice(self, feed: Feed, saver: Saver) -> None:
        departure = self._departure
        if departure.hear():
            self._saved_again = False
            saver.save_everything()
        # With nothing in hand, there is nothing to use the remaining time for.
        idle = departure.certain and not feed.held and not self._errands
        if idle or departure.is_due(saver.slowest_save_seconds):
            raise departure.interruption()
        if not self._saved_again and departure.is_due():
            # From here on the store is trusted to stay as quick as it is: what if it does not.
            self._saved_again = True
            saver.save_everything()

    @property
    def _leaving(self) -> bool:
        """Whether a shard claimed now would be let go before it was worth the claim."""
        return self._departure.certain and self._departure.is_due(within_seconds=_CLAIM_SECONDS)

    def _leave(self, end: AttemptEnd, problem: Exception | None = None) -> None:
        self._beats.own_up()
        seconds = self._departure.seconds_left(_DRAIN_SECONDS)
        if self._saver is not None:
            self._saver.drain(end, seconds * 3 / 4)
        state: State = "ended" if problem is None else "failed"
        self._beats.end(state, problem, self._departure.seconds_left(_DRAIN_SECONDS))
