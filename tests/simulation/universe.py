"""A night that comes to pass: real workers and supervisors, at once, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import count
from random import Random
from typing import Any

from tenacity import RetryCallState
from tenacity.stop import stop_after_attempt

from pipeline.accounts import accounts_of
from pipeline.allowance import AllowanceNotice
from pipeline.beats import Beats
from pipeline.beginning import begin_session
from pipeline.claims import Claimer
from pipeline.core.errors import (
    BudgetReached,
    Interrupted,
    PoolUnavailable,
    SpotmillError,
    StoreUnavailable,
    WorkersFailed,
)
from pipeline.core.layout import last_beat_key, lease_key, session_key, take_key
from pipeline.core.manifest import Provenance
from pipeline.core.money import Node, NodePrice
from pipeline.core.portion import AttemptName
from pipeline.core.ports import Engine, ObjectStore, PriceQuotes
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.errands import Errands
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.run import finish
from pipeline.spot.several import SeveralNotices
from pipeline.stores.retry import RetryingStore, RetryPolicy
from pipeline.supervisor import FleetSettings, Supervisor, Told
from pipeline.worker import Worker
from pipeline.worker_settings import WorkerSettings
from tests.simulation.markets import Market
from tests.simulation.memory_rows import JsonFormat, MemorySource
from tests.simulation.night import Event, Night
from tests.simulation.process import Process, SimEvent, Threads
from tests.simulation.scheduler import Scheduler
from tests.simulation.sim_pool import SimPool
from tests.simulation.sim_store import Bucket, SimStore, Trace
from tests.simulation.tally import CountedEngine, Tally

RUN = "night"
ENGINE = ScriptedSettings(max_model_len=64, tokens=12)
PROVENANCE = Provenance(RUN, "sha256:0", {"id": "scripted"}, {"Project": "test"})
PRICES = (
    NodePrice(Decimal("1.29"), "made up", Decimal("3.9")),
    NodePrice(Decimal("0.333333"), "made up", Decimal("3.9")),
)


_MOST_LIVES = 3


@dataclass(slots=True)
class WorkerProcess:
    """`worker_id` is what it was started as, by the pool or by the pool's platform once more."""

    process: Process
    tally: Tally
    worker_id: str


@dataclass(slots=True)
class Universe:
    """`run` may be called once; what is left then is for `invariants` to judge."""

    night: Night
    trace: Trace | None = None
    dice: Random = field(init=False)
    scheduler: Scheduler = field(init=False)
    bucket: Bucket = field(init=False)
    source: MemorySource = field(init=False)
    shards: Sequence[Shard] = field(init=False)
    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    supervisors: list[Process] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    closing_since: dict[str, float] = field(default_factory=dict)
    closed_by: dict[str, Process] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)
    stopped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = Random(~self.night.seed)
        self.scheduler = Scheduler(self.dice)
        self.bucket = Bucket(
            self.night.weather, self.dice, self.night.strikes, self.night.aims, self.trace
        )
        self.source = MemorySource(self.night.rows)
        self.shards = self.source.plan()
        job = {"run_id": RUN, "created_at": "earlier", "date": "2026-11-20", "job": {}}
        sign = {"fingerprint": PROVENANCE.job_fingerprint, "fingerprints": {}}
        self.ledger.create_job(job | sign)

    @property
    def ledger(self) -> Ledger:
        """The run as somebody sees it whose calls never fail."""
        return Ledger(self.bucket.memory, RUN, JsonFormat())

    def run(self) -> None:
        """Raises `NeverEnds` when the run is not finished soon after the night has calmed down."""
        for number in range(self.night.supervisors):
            self.scheduler.at(number * 3.0, self._supervise)
        for event in self.night.events:
            self.scheduler.at(event.at, lambda event=event: self._happen(event))  # type: ignore[misc]
        self.scheduler.run(until=self._deadline())

    def abandon(self) -> None:
        """End everything that still runs, as a night that failed leaves it."""
        for process in (*self.supervisors, *(w.process for w in self.workers.values())):
            process.kill()

    def _deadline(self) -> float:
        night, pace = self.night, self.night.pace
        work = sum(12 * len(rows) for rows in night.rows.values()) * pace.step_seconds
        slack = 600 + 4 * (pace.lease_seconds + pace.boot_seconds + pace.load_seconds) + 2 * work
        # Nobody tells of a worker that dies before its first beat: it is counted on for so long.
        deaf = 3_600 if night.hearing.deaf else 0
        death = 2 * pace.lease_seconds + pace.boot_seconds + pace.load_seconds + pace.hang_seconds
        return night.calm_from + slack + deaf + 20 * night.poison * death

    # Supervisors.

    def _supervise(self) -> None:
        name = f"supervisor-{len(self.supervisors)}"
        process = self._process(name)
        self.supervisors.append(process)
        process.begin(lambda: self._supervisor(process), self._resume)

    def _resume(self) -> None:
        """Somebody types `spotmill resume` when the last supervisor is gone."""
        anybody = any(supervisor.over_at is None for supervisor in self.supervisors)
        if not anybody and not self.manifests:
            self.scheduler.at(self.scheduler.now + 4.0, self._supervise)

    def _supervisor(self, process: Process) -> object:
        ledger = self.supervisors_ledger(process)
        pool = SimPool(
            process, self._launch, self._newest, self.stopped.add, self.night.hearing, self.dice
        )
        try:
            Supervisor(
                ledger,
                [shard.id for shard in self.shards],
                pool,
                process,
                process,
                self.fleet_settings(),
                self._name_worker,
                told=self.told_by(process),
                name=process.name,
            ).run()
            self.closing_since[began := process.timestamp()] = self.scheduler.now
            self.closed_by[began] = process
            accounts = partial(accounts_of, ledger, [shard.id for shard in self.shards])
            manifest = finish(ledger, PROVENANCE, self.shards, accounts, began, process)
        except (StoreUnavailable, PoolUnavailable, WorkersFailed, BudgetReached) as problem:
            return problem
        self.manifests.append(manifest)
        return manifest

    def supervisors_ledger(self, process: Process) -> Ledger:
        return Ledger(self._store(process), RUN, JsonFormat())

    def fleet_settings(self) -> FleetSettings:
        """Of the next supervisor."""
        pace = self.night.pace
        return FleetSettings(
            pace.workers, pace.lease_seconds, pace.tick_seconds, pace.store_patience_seconds
        )

    # Workers.

    def _name_worker(self) -> str:
        return f"worker-{next(self._numbers)}"

    def worker_of(self, session: Session) -> WorkerProcess:
        """The process whose session it is, whatever id that got."""
        return self.workers[session.nonce]

    def told_at(self, session: Session) -> float:
        """When what is known of it was stored."""
        key = last_beat_key if session.over else session_key
        return self.bucket.written_at[key(RUN, session.worker_id)]

    def _launch(self, worker_id: str) -> Process:
        lives = sum(worker.worker_id == worker_id for worker in self.workers.values())
        process = self._process(f"{worker_id}+{lives}" if lives else worker_id)
        process.dies_at = self.night.dies_at.get(len(self.workers), -1)
        self.workers[process.name] = WorkerProcess(process, Tally(), worker_id)

        def then() -> None:
            if lives + 1 < _MOST_LIVES and self._is_started_again(process):
                # Whole seconds, for no sum of times to be rounded.
                soon = self.scheduler.now + self.dice.randint(1, 5)
                self.scheduler.at(soon, lambda: self._launch_again(worker_id))

        process.begin(lambda: self._worker(process, worker_id), then)
        return process

    def _launch_again(self, worker_id: str) -> None:
        if worker_id not in self.stopped:
            self._launch(worker_id)

    def _is_started_again(self, process: Process) -> bool:
        """By the pool's own platform, which knows neither sessions nor supervisors."""
        left = process.ending == "killed" or isinstance(process.ending, Interrupted)
        return left and self.dice.random() < self.night.hearing.again

    def _newest(self, worker_id: str) -> Process:
        lives = [w.process for w in self.workers.values() if w.worker_id == worker_id]
        return lives[-1]

    def _worker(self, process: Process, worker_id: str) -> object:
        pace = self.night.pace
        process.sleep(pace.boot_seconds)
        ledger = Ledger(self._store(process), RUN, JsonFormat())
        allowance = AllowanceNotice(ledger, process, pace.lease_seconds)
        node, price = self.node_of(process.name), self.price_of(process.name)
        with Threads(process, pace.threads) as threads:
            errands = Errands(threads, threads.wait_for, lambda: SimEvent(process))
            patience = Patience(process, pace.store_patience_seconds)
            try:
                begun = begin_session(
                    *(ledger, process, worker_id),
                    boot_seconds=self.scheduler.now - process.born_at,
                    lease_seconds=pace.lease_seconds,
                    nonce=process.name,
                )
                beats = Beats(begun, ledger, errands, process, patience, look=allowance.look)
                with beats.stood_in_for(), beats.ended_by(()):
                    process.sleep(pace.ask_seconds)
                    beats.tell_price(node, Fraction(1), price)
                settings = WorkerSettings(
                    worker_id=beats.worker_id,
                    output_uri="memory://answers/",
                    chunk_rows=pace.chunk_rows,
                    chunk_seconds=pace.chunk_seconds,
                    lease_seconds=pace.lease_seconds,
                    node=node,
                )
                return Worker(
                    settings,
                    lambda _: PROVENANCE,
                    ledger,
                    Claimer(
                        *(self.shards, ledger, self.source, process),
                        *(beats.worker_id, pace.lease_seconds),
                    ),
                    self._engine_loader(process),
                    process,
                    SeveralNotices(process, allowance),
                    errands,
                    beats,
                    quotes=self.quotes_of(process, price),
                ).run()
            except SpotmillError as problem:
                return problem

    def told_by(self, supervisor: Process) -> Told:
        return lambda _sessions, _published: None

    def quotes_of(self, process: Process, first: NodePrice) -> PriceQuotes | None:
        # In every other night, since asking changes what comes after what.
        return None if self.night.seed % 2 else Market(process, first)

    def node_of(self, worker_id: str) -> Node:
        return Node(instance_id=worker_id)

    def price_of(self, worker_id: str) -> NodePrice:
        return PRICES[len(self.workers) % len(PRICES)]

    def _engine_loader(self, process: Process) -> Callable[[bool], Engine]:
        pace, tally = self.night.pace, self.workers[process.name].tally
        settings = ScriptedSettings(
            window=pace.window,
            max_model_len=ENGINE.max_model_len,
            tokens=ENGINE.tokens,
            step_seconds=pace.step_seconds,
            hang_seconds=pace.hang_seconds,
        )

        def load(own_process: bool) -> Engine:
            process.sleep(pace.load_seconds)
            apart = own_process or pace.own_process
            engine = ScriptedEngine(settings, process.sleep, apart, self.scheduler.die)
            return CountedEngine(engine, tally, process, self._is_superseded, pace.close_seconds)

        return load

    @property
    def calm_weather_from(self) -> float:
        """By then, calls that were slow or late when the weather cleared are over too."""
        weather = self.night.weather
        lasting = weather.slow_seconds if weather.slow or weather.late else 0.0
        return weather.clears_at + 3 * lasting

    def _is_superseded(self, name: AttemptName) -> bool:
        """Whether a shard had a newer owner, or a portion a newer taker, when nothing explains any
        more not to know of it."""
        if self.scheduler.now <= self.calm_weather_from:
            return False
        newer = lease_key(RUN, name.shard_id, name.epoch + 1)
        if name.portion:
            newer = take_key(RUN, *name[:3], name.take + 1)
        return self.bucket.memory.get(newer) is not None

    def _process(self, name: str) -> Process:
        return Process(
            self.scheduler,
            name,
            origin=float(self.dice.randrange(100_000)),
            skew=float(self.dice.randrange(-5_000, 5_000)),
        )

    def _store(self, process: Process) -> ObjectStore:
        store = SimStore(self.bucket, process)
        attempts = self.night.pace.retries
        if not attempts:
            return store

        def wait(state: RetryCallState) -> float:
            longest: float = 0.2 * 2**state.attempt_number
            return self.dice.random() * min(10.0, longest)

        return RetryingStore(store, RetryPolicy(stop_after_attempt(attempts), wait, process.sleep))

    # What goes wrong.

    def _happen(self, event: Event) -> None:
        if event.kind == "kill supervisor":
            living = [process for process in self.supervisors if process.over_at is None]
        else:
            alive = [w for w in self.workers.values() if w.process.over_at is None]
            # A worker that has begun has more to lose than one that boots.
            begun = [w for w in alive if w.tally.decoded]
            struck_ones = begun if begun and self.dice.random() < 0.8 else alive
            living = [w.process for w in struck_ones]
        struck = round(event.share * len(living)) or 1
        for process in self.dice.sample(living, min(struck, len(living))):
            self._strike(process, event)

    def _strike(self, process: Process, event: Event) -> None:
        if self.trace is not None:
            self.trace(self.scheduler.now, process.name, event.kind, "", str(event))
        if event.kind == "pause":
            process.frozen_until = self.scheduler.now + (event.seconds or 0.0)
            return
        if event.kind != "notice":
            process.kill()
            return
        assert event.notice is not None
        # A machine is not promised away twice, with two ends.
        if process.tell(event.notice) and event.seconds is not None:
            self.scheduler.at(self.scheduler.now + event.seconds, process.kill)
