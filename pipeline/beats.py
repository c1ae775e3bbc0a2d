"""A worker's session, beaten to the store: that it lives, what it holds, what it has cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import count

from pipeline.beginning import Begun
from pipeline.core.lease import BEATS_IN_A_LEASE
from pipeline.core.money import Bucket, Node, NodePrice
from pipeline.core.portion import AttemptName, Claims, PortionName
from pipeline.core.ports import Clock
from pipeline.core.session import EngineStart, Session, State
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.price_moves import Move, PriceMoves, account_at
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")

_END_SECONDS = 20.0
_LATE_BEATS = 1.5
"""A thread that says nothing for so many beats is stuck in something: another one beats for it."""
_STUCK_IN: Mapping[State, Bucket] = {"boot": "boot", "load": "load"}
"""Where time goes in which nothing was said; at work, nothing comes of it."""
_STUCK_SECONDS = 1_800.0
"""A worker that is busy for longer without a word is not believed to come back: beating ends."""


class Beats:
    """One session's beats after its first, from its `sheet`. `feed`, `moves` of its price and
    `engine_start` are given as soon as there are any. One thread calls it. `told` is shown each
    session as it is beaten, and must not take time; `look` is called beside each beat, to see what
    there is to see in the store. Both in any thread."""

    def __init__(
        self,
        begun: Begun,
        ledger: Ledger,
        errands: Errands,
        clock: Clock,
        patience: Patience,
        told: Callable[[Session], None] = lambda _: None,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.sheet = Timesheet(begun.at, begun.session.buckets.boot, begun.session.price)
        self.patience = patience
        self.feed: Feed | None = None
        self.moves: PriceMoves | None = None
        self.engine_start: EngineStart | None = None
        self._ledger = ledger
        self._errands = errands
        self._clock = clock
        self._told = told
        self._look = look
        self._beating = False
        self._beat_after = 0.0
        self._beat_seconds = begun.session.lease_seconds / BEATS_IN_A_LEASE
        self._own_beat_at = begun.at
        # Drawn from by two threads, and each number once.
        self._numbers = count(begun.session.beat + 1)
        self._session = begun.session

    @property
    def worker_id(self) -> str:
        return self._session.worker_id

    @contextmanager
    def ended_by(self, interruptions: tuple[type[BaseException], ...]) -> Iterator[None]:
        """What is raised while this lasts, before the worker is there to end its session, ends it
        here."""
        try:
            yield
        except interruptions:
            self.sheet.pass_to(self._clock.now(), "boot")
            self.end("ended", None, _END_SECONDS)
            raise
        except Exception as problem:
            self.sheet.pass_to(self._clock.now(), "boot")
            self.end("failed", problem, _END_SECONDS)
            raise

    def tell_price(self, node: Node, share: Fraction, price: NodePrice) -> None:
        """Where the session is, on what `share` of it, and what an hour of that has cost from the
        beginning."""
        self.sheet.cost_always(price)
        self.sheet.pass_to(self._clock.now(), "boot")
        self._own_beat_at = self._clock.now()
        self._session = replace(self._next("boot"), node=node, node_share=share)
        self._ledger.sessions.beat(self._session)
        self._look()

    def booted(self) -> None:
        """The worker is there: all time until now was its boot."""
        self.sheet.pass_to(self._clock.now(), "boot")
        self.loading()

    @contextmanager
    def stood_in_for(self) -> Iterator[None]:
        """While this lasts, beats come from beside this thread whenever it is late with its own:
        it loads a model, or waits for an engine that hangs. Prices are looked at, too."""
        with self._errands.repeated(self._beside, self._beat_seconds / 2):
            yield

    def loading(self) -> None:
        """This thread is going to be busy loading a model."""
        self._own_beat_at = self._clock.now()
        self._session = self._next("load")

    def loaded(self) -> None:
        """The model is there: whatever this thread is busy with now, it is no load."""
        self._session = replace(self._session, state="work")

    def own_up(self) -> None:
        """Put time in which this thread was stuck where a beat in its stead has put it: an account
        that was told only grows, bucket by bucket. To be called before that time goes elsewhere
        than to steps of an engine, good or bad."""
        now, (until, _) = self._clock.now(), self.sheet.so_far
        if self._is_long(now - until):
            self.sheet.pass_to(now, _STUCK_IN.get(self._session.state, "wasted"))

    def _is_long(self, seconds: float) -> bool:
        return seconds >= _LATE_BEATS * self._beat_seconds

    def _beside(self) -> None:
        if self.moves is not None:
            self.moves.look()
        self._stand_in()

    def _stand_in(self) -> None:
        now = self._clock.now()
        silent = now - self._own_beat_at
        if not self._is_long(silent) or silent > _STUCK_SECONDS:
            return
        session = self._session
        until, account = self.sheet.so_far
        if self._is_long(now - until):
            bucket = _STUCK_IN.get(session.state, "wasted")
            moves = self._moves_since(until, account.price) if bucket == "load" else ()
            account = account_at(account, until, bucket, now, moves)
        told = replace(
            session.at(account), beat=next(self._numbers), beat_at=self._clock.timestamp()
        )
        self._told(told)
        self._ledger.sessions.beat(told)
        self._look()

    def _moves_since(self, at: float, price: NodePrice) -> Iterable[Move]:
        """Those that the load's end will tell of, too."""
        if self.moves is None or not self.sheet.all_shared:
            return ()
        return self.moves.since(at, price, charged=self.feed is not None)

    def beat_when_due(self) -> None:
        """Say that this worker lives, and look whether what it holds is still its own."""
        feed = self.feed
        if feed is None or self._beating or self._clock.now() < self._beat_after:
            return
        self._beating = True
        self.own_up()
        self._own_beat_at = self._clock.now()
        self._beat_after = self._own_beat_at + self._beat_seconds
        session = self._session = self._next("work")
        held = list(feed.held)

        def beat() -> tuple[dict[int, Claims], set[AttemptName]]:
            self._ledger.sessions.beat(session)
            self._look()
            portions = self._ledger.portions
            claims = {
                shard_id: portions.claims(shard_id) for shard_id in {n.shard_id for n in held}
            }
            return claims, {name for name in held if self._is_lost(name, claims[name.shard_id])}

        def beaten(seen: tuple[dict[int, Claims], set[AttemptName]]) -> None:
            claims, lost = seen
            self._beating = False
            self.patience.answered()
            for name in [name for name in held if name in feed.held]:
                if name in lost:
                    log.warning("shard %05d is another worker's: dropped", name.shard_id)
                    feed.drop(feed.held[name])
                else:
                    feed.held[name].lent.claims = claims[name.shard_id]

        def failed(problem: Exception) -> None:
            self._beating = False
            self.patience.bear(problem)

        self._errands.send(beat, beaten, failed)

    def _is_lost(self, name: AttemptName, claims: Claims) -> bool:
        """Whether a shard has a newer owner, or a portion a newer taker, or no use any more."""
        if not name.portion:
            return claims.epoch > name.epoch
        newest = claims.takes.get(PortionName(name.epoch, name.portion), 0)
        return newest > name.take or self._ledger.is_published(name.shard_id)

    def end(self, state: State, problem: Exception | None, seconds: float) -> None:
        """The last beat, which lets all leases go; given up after `seconds`.

        What is on its way is waited for first, since it may have something to tell.
        """
        over_at = self._clock.now() + seconds
        self._errands.finish(seconds * 2 / 3)
        self.sheet.pass_to(self._clock.now(), "drain")
        session = self._next(state, problem)

        def done(_: None) -> None:
            pass

        def failed(failure: Exception) -> None:
            log.warning("last beat not saved, its leases have to run out: %s", failure)

        self._errands.send(lambda: self._ledger.sessions.end(session), done, failed)
        self._errands.finish(max(0.0, over_at - self._clock.now()))

    @property
    def rows(self) -> int:
        return self.feed.rows if self.feed else 0

    def _next(self, state: State, problem: Exception | None = None) -> Session:
        feed = self.feed
        decoded = feed.settle()[0] if feed else {}
        accounts = feed.accounts(decoded) if feed else {}
        portions = {name: account for name, account in accounts.items() if name.portion}
        session = replace(
            self._session,
            beat=next(self._numbers),
            state=state,
            beat_at=self._clock.timestamp(),
            price=self.sheet.price,
            buckets=self.sheet.buckets,
            earlier=self.sheet.earlier,
            shards={n.shard_id: account for n, account in accounts.items() if not n.portion},
            dropped=dict(feed.dropped) if feed else {},
            portions={**(feed.portions if feed else {}), **portions},
            helping=len(portions),
            rows=self.rows,
            decoded=self.sheet.decoded,
            unshared=self.sheet.unshared,
            error=None if problem is None else str(problem) or repr(problem),
            error_kind=None if problem is None else type(problem).__name__,
            start=self.engine_start,
            prompt_tokens=feed.prompt_tokens if feed else 0,
            draft_proposed=self.sheet.draft_proposed,
            draft_accepted=self.sheet.draft_accepted,
        )
        self._told(session)
        return session
