"""A pool whose workers live as the test says: plain state machines over a ledger, no engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from pipeline.allowance import AllowanceNotice
from pipeline.claims import Claimer, NothingLeft, Opened
from pipeline.core.errors import PoolUnavailable
from pipeline.core.fleet import WorkerEnd
from pipeline.core.lives import id_of_life
from pipeline.core.money import UNTOLD_PRICE, Buckets, Node, NodePrice
from pipeline.core.ports import ObjectStore
from pipeline.core.session import Session, State
from pipeline.ledger import Ledger
from pipeline.stores.memory import MemoryStore
from tests.simulation.fakes import VirtualClock
from tests.simulation.memory_rows import JsonFormat, MemorySource, Row

RUN = "night"
A_DOLLAR_A_SECOND = NodePrice(Decimal(3600), "made up")
KILLED = WorkerEnd("killed by SIGKILL")

_STEP_SECONDS = 0.25


@dataclass(slots=True)
class SharedClock(VirtualClock):
    """While one sleeps, the others move on; a sleep beyond `limit` is a run that never ends."""

    others: list[Callable[[], None]] = field(default_factory=list)
    limit: float = 10_000.0

    def sleep(self, seconds: float) -> None:
        until = self.seconds + seconds
        while self.seconds < until:
            self.seconds = min(until, self.seconds + _STEP_SECONDS)
            for move in self.others:
                move()
        assert self.seconds < self.limit, "the run does not end"


@dataclass(frozen=True, slots=True)
class Life:
    """How one worker lives, in virtual seconds since it was asked for.

    `boot_seconds` None is a machine that never comes. Death is without a last beat: at `dies_at`,
    or right after the beat that tells of `last_rows` rows. The pool says `death` of it; None is a
    pool that never learns of it. With `error_kind` its session fails when the model is loaded.
    A death that is followed by `again` is none to the pool, whose platform starts the worker once
    more under the same id, to live like that. For `untold_seconds` it does not tell its `price`.
    """

    boot_seconds: float | None = 1.0
    load_seconds: float = 2.0
    row_seconds: float = 1.0
    holds: int = 1
    dies_at: float | None = None
    last_rows: int | None = None
    error_kind: str | None = None
    death: WorkerEnd | None = KILLED
    price: NodePrice = A_DOLLAR_A_SECOND
    again: Life | None = None
    untold_seconds: float = 0.0


WELL = Life()


@dataclass(slots=True)
class House:
    """A run of `rows` by shard; `saved` stands for the checkpoints."""

    rows: Mapping[int, int]
    clock: SharedClock = field(default_factory=SharedClock)
    memory: MemoryStore = field(default_factory=MemoryStore)
    lease_seconds: float = 8.0
    saved: dict[int, int] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.ledger_over(self.memory)

    def ledger_over(self, store: ObjectStore) -> Ledger:
        return Ledger(store, RUN, JsonFormat())

    @property
    def complete(self) -> bool:
        return self.ledger.published() == set(self.rows)

    def claimer(self, worker_id: str) -> Claimer:
        source = MemorySource({shard: [Row("?")] * rows for shard, rows in self.rows.items()})
        return Claimer(
            source.plan(), self.ledger, source, self.clock, worker_id, self.lease_seconds
        )

    def publish(self, *shard_ids: int) -> None:
        for shard_id in shard_ids:
            self.ledger.publish(shard_id, b"rows")


class ScriptedWorker:
    """Claims as workers do, answers a row every `row_seconds`, and beats four times in a lease,
    when it looks for how long it may go on."""

    def __init__(self, house: House, name: str, life: Life) -> None:
        self._house = house
        self._life = life
        self._claimer = house.claimer(name)
        self._ledger = house.ledger
        self._allowance = AllowanceNotice(self._ledger, house.clock, house.lease_seconds)
        self._asked_at = house.clock.now()
        self._held: list[int] = []
        self._row_at = self._beat_at = 0.0
        self.gone = False
        self.session = Session(name, -1, "load", "then", "then", Node(), life.price)

    @property
    def age(self) -> float:
        return self._house.clock.now() - self._asked_at

    def move(self) -> None:
        life = self._life
        self.gone |= life.dies_at is not None and self.age >= life.dies_at
        if self.gone or life.boot_seconds is None or self.age < life.boot_seconds:
            return
        if self._allowance.pending() is not None:
            self._end("ended")
        elif self.session.beat < 0:
            self._beat("load")
        elif self.session.state != "load":
            self._work(self._house.clock.now())
        elif self.age < life.boot_seconds + life.load_seconds:
            if self._house.clock.now() >= self._beat_at:
                self._beat("load")
        elif life.error_kind is None:
            self._beat("work")
        else:
            self._end("failed")

    def drain(self) -> None:
        if not self.gone:
            self._end("ended")

    def _work(self, now: float) -> None:
        if len(self._held) < self._life.holds and self._claim(now):
            return
        if self._held and now >= self._row_at:
            self._answer(self._held[0])
            self._row_at = now + self._life.row_seconds
        if now >= self._beat_at:
            self._beat("work")
            last = self._life.last_rows
            self.gone = last is not None and self.session.rows >= last

    def _claim(self, now: float) -> bool:
        """True when nothing is left to claim and nothing in hand, which is this worker's end."""
        claimed = self._claimer.claim()
        if isinstance(claimed, Opened):
            if not self._held:
                self._row_at = now + self._life.row_seconds
            self._held.append(claimed.shard.id)
        elif isinstance(claimed, NothingLeft) and not self._held:
            self._end("ended")
            return True
        return False

    def _answer(self, shard_id: int) -> None:
        saved = self._house.saved
        saved[shard_id] = saved.get(shard_id, 0) + 1
        self.session = replace(self.session, rows=self.session.rows + 1)
        if saved[shard_id] >= self._house.rows[shard_id]:
            self._house.publish(shard_id)
            self._held.remove(shard_id)

    def _beat(self, state: State) -> None:
        self._beat_at = self._house.clock.now() + self._house.lease_seconds / 4
        self.session = replace(
            self.session,
            beat=self.session.beat + 1,
            state=state,
            buckets=self._buckets(),
            price=self._life.price if self.age >= self._life.untold_seconds else UNTOLD_PRICE,
        )
        self._ledger.sessions.beat(self.session)
        self._allowance.look()

    def _buckets(self) -> Buckets:
        boot = min(self.age, self._life.boot_seconds or 0.0)
        load = min(self.age - boot, self._life.load_seconds)
        spent = {"boot": boot, "load": load, "idle": self.age - boot - load}
        return Buckets.from_seconds(spent)

    def _end(self, state: State) -> None:
        kind = self._life.error_kind if state == "failed" else None
        self.session = replace(self.session, error_kind=kind, error=kind and f"said of {kind}")
        self._beat(state)
        self.gone = True


@dataclass(slots=True)
class ScriptedPool:
    """Implements `WorkerPool`. The n-th worker lives as `lives` says, those after the last well.

    `away` says by verb whether the pool does not answer now; one that `forgets_answers` has started
    what it was asked for all the same.
    """

    house: House
    lives: tuple[Life, ...] = ()
    forever: Life = WELL
    away: Callable[[str], bool] = lambda _: False
    workers: dict[str, ScriptedWorker] = field(default_factory=dict)
    started_at: list[float] = field(default_factory=list)
    forgets_answers: bool = False
    stops_asked: int = 0
    most_alive: int = 0
    _lives: dict[str, Life] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _started_again: Counter[str] = field(default_factory=Counter)

    def start(self, worker_id: str) -> str:
        nth = len(self.started_at)
        if worker_id not in self.workers:
            if not self.forgets_answers:
                self._answer("start")
            self._launch(worker_id, nth)
        self._answer("start")
        return f"scripted worker {nth}"

    def _launch(self, worker_id: str, nth: int) -> None:
        life = self.lives[nth] if nth < len(self.lives) else self.forever
        worker = ScriptedWorker(self.house, worker_id, life)
        self.workers[worker_id], self._lives[worker_id] = worker, life
        self.started_at.append(self.house.clock.now())
        self.house.clock.others.append(lambda: self._move(worker_id))
        alive = sum(not w.gone for n, w in self.workers.items() if self._lives[n].boot_seconds)
        self.most_alive = max(self.most_alive, alive)

    def _move(self, worker_id: str) -> None:
        worker = self.workers[worker_id]
        worker.move()
        again = self._lives[worker_id].again
        if worker.gone and again is not None and not worker.session.over:
            self._started_again[worker_id] += 1
            name = id_of_life(worker_id, 1 + self._started_again[worker_id])
            self.workers[worker_id] = ScriptedWorker(self.house, name, again)
            self._lives[worker_id] = again

    def ended(self) -> Mapping[str, WorkerEnd]:
        self._answer("ended")
        gone = {name: w for name, w in self.workers.items() if w.gone and name not in self._told}
        ends = {name: self._end_of(name, worker.session) for name, worker in gone.items()}
        told = {name: end for name, end in ends.items() if end is not None}
        self._told |= told.keys()
        return told

    def running(self) -> int:
        return len(self.workers) - len(self._told)

    def stop(self) -> None:
        self.stops_asked += 1
        self._answer("stop")
        for worker in self.workers.values():
            worker.drain()

    def _end_of(self, name: str, session: Session) -> WorkerEnd | None:
        if session.state == "ended":
            return WorkerEnd()
        if session.state == "failed":
            return WorkerEnd("exit code 1")
        return self._lives[name].death

    def _answer(self, verb: str) -> None:
        if self.away(verb):
            raise PoolUnavailable(f"the pool is away: {verb}")
