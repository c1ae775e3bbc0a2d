"""A whole run in one thread and one process: the same inputs make the same world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

from pipeline.accounts import accounts_of
from pipeline.beats import Beats
from pipeline.beginning import begin_session
from pipeline.claims import Claimer
from pipeline.core.errors import EngineDied, EngineFailed, Interrupted, SpotmillError
from pipeline.core.manifest import Provenance
from pipeline.core.money import Node, NodePrice
from pipeline.core.ports import InterruptionNotice, ObjectStore, PriceQuotes
from pipeline.core.rows import Completion, FinishedRow, Sampling
from pipeline.core.session import EngineStart
from pipeline.core.shards import Shard
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.errands import Errands
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.run import finish
from pipeline.steering import Watching
from pipeline.stores.faults import FaultPlan, FaultyStore
from pipeline.stores.memory import MemoryStore
from pipeline.verify import problems
from pipeline.worker import Worker, WorkerReport
from pipeline.worker_settings import WorkerSettings
from tests.simulation.fakes import InlineExecutor, NoticeAt, OverAtOnce, VirtualClock
from tests.simulation.memory_rows import JsonFormat, MemorySource, Row
from tests.simulation.watched import Interference, Killed, WatchedStore, undisturbed

RUN = "night"
Rows = Mapping[int, Sequence[Row]]
Ending = WorkerReport | Killed | SpotmillError
WrapStore = Callable[[ObjectStore], ObjectStore]

EXACT = Sampling(max_tokens=10)
RESTARTS = Sampling(max_tokens=10, temperature=0.7, seed=7)
BOOT_SECONDS = 0.5


def small_workload(*samplings: Sampling) -> Rows:
    """Two shards of seven and four rows, one of them bad; samplings in turn, by row."""
    rows = {
        shard: [
            Row(f"shard {shard}, row {row}", samplings[row % len(samplings)]) for row in range(n)
        ]
        for shard, n in enumerate((7, 4))
    }
    rows[0][3] = Row("")
    return rows


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things happen, in rows and virtual seconds."""

    chunk_rows: int = 2
    chunk_seconds: float = 3.0
    lease_seconds: float = 16.0
    step_seconds: float = 1.0
    call_seconds: float = 0.125
    load_seconds: float = 0.5
    window: int = 3


@dataclass(slots=True)
class World:
    """`faults` go to every worker's store, and `wrap_store` goes around them."""

    rows: Rows
    pace: Pace = field(default_factory=Pace)
    faults: FaultPlan | None = None
    wrap_store: WrapStore = lambda store: store
    price: NodePrice = NodePrice(Decimal("1.29"), "made up", Decimal("3.9"))
    node_share: Fraction = Fraction(1)
    clock: VirtualClock = field(default_factory=VirtualClock)
    memory: MemoryStore = field(default_factory=MemoryStore)
    own_process: bool = False
    node_is_bad: bool = False
    load_error: str | None = None
    watching: Watching | None = None
    engine_start: EngineStart | None = None
    quotes: PriceQuotes | None = None
    started: int = 0
    engines: int = 0
    calls: int = 0

    def __post_init__(self) -> None:
        fingerprint = self.provenance.job_fingerprint
        job = {"run_id": RUN, "created_at": "earlier", "date": "2026-11-20", "job": {}}
        self.ledger.create_job({**job, "fingerprint": fingerprint, "fingerprints": {}})

    @property
    def source(self) -> MemorySource:
        return MemorySource(self.rows)

    @property
    def shards(self) -> tuple[Shard, ...]:
        return self.source.plan()

    @property
    def format(self) -> JsonFormat:
        return JsonFormat()

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.memory, RUN, self.format)

    @property
    def provenance(self) -> Provenance:
        return Provenance(RUN, "sha256:0", {"id": "scripted"}, {"Project": "test"})

    def work(
        self,
        interfere: Interference = undisturbed,
        notice: InterruptionNotice | None = None,
        worker_id: str | None = None,
    ) -> Ending:
        """One worker from boot to its end, whatever that is; `calls` is its store calls. With a
        `worker_id`, as a pool starts one again that it started before."""
        self.started += worker_id is None
        name = worker_id or f"worker-{self.started}"
        watched = WatchedStore(self.memory, interfere, self.clock.sleep, self.pace.call_seconds)
        store: ObjectStore = watched
        if self.faults is not None:
            store = FaultyStore(watched, self.faults, self.clock.sleep)
        ledger = Ledger(self.wrap_store(store), RUN, JsonFormat())
        try:
            return self._worker(name, ledger, notice or NoticeAt()).run()
        except (Killed, SpotmillError) as ending:
            return ending
        finally:
            self.calls = watched.calls

    def _worker(self, name: str, ledger: Ledger, notice: InterruptionNotice) -> Worker:
        pace, node = self.pace, Node(instance_id=name)
        begun = begin_session(
            *(ledger, self.clock, name),
            boot_seconds=BOOT_SECONDS,
            lease_seconds=pace.lease_seconds,
        )
        errands = Errands(InlineExecutor(), new_event=OverAtOnce)
        beats = Beats(begun, ledger, errands, self.clock, Patience(self.clock))
        beats.tell_price(node, self.node_share, self.price)
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
            lambda _: self.provenance,
            ledger,
            Claimer(
                *(self.shards, ledger, self.source, self.clock),
                *(beats.worker_id, pace.lease_seconds),
            ),
            self._load_engine,
            self.clock,
            notice,
            errands,
            beats,
            watching=self.watching,
            engine_start=lambda: self.engine_start,
            quotes=self.quotes,
        )

    def _load_engine(self, own_process: bool) -> ScriptedEngine:
        self.clock.sleep(self.pace.load_seconds)
        self.engines += 1
        if self.load_error is not None:
            raise EngineFailed("the engine could not start", why=self.load_error)
        settings = ScriptedSettings(
            window=self.pace.window, tokens=12, step_seconds=self.pace.step_seconds
        )
        kind = BrokenEngine if self.node_is_bad else ScriptedEngine
        return kind(settings, self.clock.sleep, own_process or self.own_process, _crash)

    def resume(self, workers: int = 4) -> None:
        """Successors, one after the other and undisturbed, until everything is published."""
        for _ in range(workers):
            if len(self.ledger.published()) == len(self.shards):
                return
            ending = self.work()
            if isinstance(ending, SpotmillError) and not isinstance(ending, Interrupted):
                raise ending
        assert len(self.ledger.published()) == len(self.shards), "successors leave work undone"

    def finish(self) -> dict[str, Any]:
        ledger = self.ledger
        accounts = partial(accounts_of, ledger, [shard.id for shard in self.shards])
        return finish(ledger, self.provenance, self.shards, accounts, "earlier", self.clock)

    def answers(self) -> dict[int, list[FinishedRow]]:
        """The published rows, by shard."""
        ledger = self.ledger
        bodies = {shard_id: ledger.part(shard_id) for shard_id in ledger.published()}
        return {
            s: list(ledger.rows_of_part(body)) for s, body in bodies.items() if body is not None
        }

    def decoded(self) -> int:
        """Tokens that all workers say they decoded."""
        return sum(session.decoded for session in self.ledger.sessions.all().values())

    def problems(self) -> list[str]:
        return list(problems(self.ledger, self.shards, self.source))

    def check_invariants(self, manifest: Mapping[str, Any]) -> None:
        """Every row once and as in an undisturbed run, the books balanced, nothing to object to."""
        assert self.problems() == []
        answers = self.answers()
        assert answers == undisturbed_answers(self.rows)
        cost = manifest["cost"]
        assert Decimal(cost["allocated"]) + Decimal(cost["unallocated"]) == Decimal(cost["total"])
        assert manifest["tokens"]["output"] == tokens_in(answers)
        owed = [row for row in manifest["unallocated"] if min(row["seconds"].values()) < 0]
        assert owed == [], "a worker's seconds are charged twice"


class BrokenEngine(ScriptedEngine):
    """On a node that lets engines start, and nothing more."""

    def step(self) -> Sequence[Completion]:
        raise EngineDied("the engine died", why="an illegal memory access")


def _crash() -> None:
    raise Killed("the engine took its worker along")


def tokens_in(answers: Mapping[int, Sequence[FinishedRow]]) -> int:
    return sum(row.completion_tokens for rows in answers.values() for row in rows)


def undisturbed_answers(rows: Rows) -> dict[int, list[FinishedRow]]:
    world = World(rows)
    assert isinstance(world.work(), WorkerReport)
    return world.answers()
