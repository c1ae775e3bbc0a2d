"""A recorded fleet, lived again: one real worker for each node, from its first second to its last.

No supervisor: the trace says when nodes come and go, and workers claim by themselves. The work
never ends, so all that keeps an engine from decoding is what this measures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import count
from random import Random

from pipeline.beats import Beats
from pipeline.beginning import begin_session
from pipeline.claims import Claimer
from pipeline.core.checkpoint import Checkpoint, fold
from pipeline.core.errors import Interrupted
from pipeline.core.layout import checkpoint_of, checkpoints_prefix, parts_prefix, shard_of_part
from pipeline.core.manifest import Provenance
from pipeline.core.money import Node, NodePrice
from pipeline.core.notice import Notice
from pipeline.core.ports import Engine
from pipeline.core.rows import FinishedRow, Sampling
from pipeline.core.shards import Shard
from pipeline.errands import Errands
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.worker import Worker
from pipeline.worker_settings import WorkerSettings
from tests.simulation.coarse_engine import CoarseEngine
from tests.simulation.memory_rows import JsonFormat, MemoryShard, Row
from tests.simulation.outcome import NodeSeconds, Outcome
from tests.simulation.process import Process, SimEvent, Threads
from tests.simulation.scheduler import Scheduler
from tests.simulation.sim_store import Bucket, SimStore, Weather
from tests.simulation.traces import Lifetime, SpotTrace

RUN = "replay"
CONTINUES = Sampling(max_tokens=1_000)
_PROVENANCE = Provenance(RUN, "sha256:0", {"id": "scripted"}, {"Project": "test"})
_PRICE = NodePrice(Decimal(1), "made up", Decimal(3))
_SWEEP_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Realism:
    """What the replayed fleet is like, in virtual seconds.

    A token here is coarse: what an engine decodes for one row in `step_seconds`, some twenty real
    ones. Rows are 1 to `tokens` of them long, all lengths equally often, and continue exactly. A
    store call takes up to twice `latency_seconds`, and that on average.
    """

    boot_seconds: float = 20.0
    load_seconds: float = 40.0
    step_seconds: float = 1.0
    chunk_seconds: float = 5.0
    lease_seconds: float = 30.0
    latency_seconds: float = 0.075
    window: int = 8
    tokens: int = 32
    shard_rows: int = 600
    threads: int = 12

    @property
    def cold_seconds(self) -> float:
        return self.boot_seconds + self.load_seconds

    @property
    def shard_seconds(self) -> float:
        """How long one node works on one shard."""
        return self.shard_rows * (self.tokens + 1) / 2 / self.window * self.step_seconds


@dataclass(frozen=True, slots=True)
class EndlessSource:
    """Implements `InputSource`: as many equal shards as asked for, their rows made when opened."""

    shards: int
    shard_rows: int

    def open(self, shard: Shard) -> MemoryShard:
        return MemoryShard([Row(f"{shard.id}/{row}", CONTINUES) for row in range(self.shard_rows)])

    def plan(self) -> tuple[Shard, ...]:
        return tuple(
            Shard(number, f"file-{number}", "etag", 1, (0,), 0, self.shard_rows, 1)
            for number in range(self.shards)
        )


@dataclass(slots=True)
class ByNumber:
    """Implements `FileFormat`: a checkpoint's body is its number, and nothing is spelled out."""

    kept: dict[bytes, Checkpoint] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def encode_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        body = str(next(self._numbers)).encode()
        self.kept[body] = checkpoint
        return body

    def decode_checkpoint(self, body: bytes) -> Checkpoint:
        return self.kept[body]

    def manifest_of_part(self, body: bytes) -> bytes | None:
        raise NotImplementedError("where no call fails, no part is ever in doubt")

    def rows_of_part(self, body: bytes) -> Sequence[FinishedRow]:
        return JsonFormat().rows_of_part(body)


@dataclass(slots=True)
class ReplayedNode:
    life: Lifetime
    process: Process
    engine: CoarseEngine | None = None
    loaded_at: float = math.inf


@dataclass(slots=True)
class Replay:
    """`run` may be called once. `notice_seconds` before each loss its node is told; None is never.

    There are more shards than anybody needs; where they are `scarce`, only one more than nodes at
    once, and so long that they last: who comes later has to go on with what the dead left.
    What nodes that outlive the trace had not saved at its end counts as lost, like any other's.
    """

    trace: SpotTrace
    notice_seconds: float | None = None
    scarce: bool = False
    realism: Realism = Realism()
    seed: int = 0
    scheduler: Scheduler = field(init=False)
    bucket: Bucket = field(init=False)
    source: EndlessSource = field(init=False)
    shards: Sequence[Shard] = field(init=False)
    nodes: list[ReplayedNode] = field(default_factory=list)
    _files: ByNumber = field(default_factory=ByNumber)
    _dice: Random = field(init=False)
    _published_tokens: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dice = Random(self.seed)
        self.scheduler = Scheduler(self._dice)
        self.bucket = Bucket(Weather(latency=self.realism.latency_seconds), self._dice)
        rows, at_once = self.realism.shard_rows, self.trace.most_at_once
        enough = math.ceil(1.5 * self.trace.node_seconds / self.realism.shard_seconds)
        self.source = EndlessSource(enough + 8 * at_once, rows)
        if self.scarce:
            self.source = EndlessSource(at_once + 1, rows * math.ceil(enough / at_once))
        self.shards = self.source.plan()

    def run(self) -> Outcome:
        for life in self.trace.lives:
            self.scheduler.at(life.added, lambda life=life: self._add(life))  # type: ignore[misc]
        for sweep in range(1, int(self.trace.end / _SWEEP_SECONDS) + 1):
            self.scheduler.at(sweep * _SWEEP_SECONDS, self._sweep)
        self.scheduler.run(until=self.trace.end + 10)
        self._sweep()
        begun = {found.shard_id for key in self._checkpoints() if (found := checkpoint_of(key))}
        saved = sum(self._saved(shard_id) for shard_id in begun - self._published_tokens.keys())
        committed = sum(self._published_tokens.values()) + saved
        seconds = NodeSeconds()
        for node in self.nodes:
            seconds += self._seconds_of(node)
        decoded = sum(node.engine.decoded for node in self.nodes if node.engine)
        full_rate = self.realism.window / self.realism.step_seconds
        return Outcome(
            trace=self.trace,
            notice_seconds=self.notice_seconds,
            cold_seconds=self.realism.cold_seconds,
            decoded=decoded,
            committed=committed,
            committed_seconds=committed / full_rate,
            seconds=seconds,
            left_by_themselves=sum(isinstance(n.process.ending, Interrupted) for n in self.nodes),
        )

    # A node.

    def _add(self, life: Lifetime) -> None:
        process = Process(
            self.scheduler,
            f"node-{len(self.nodes)}",
            origin=float(self._dice.randrange(100_000)),
            skew=float(self._dice.randrange(-5_000, 5_000)),
        )
        node = ReplayedNode(life, process)
        self.nodes.append(node)
        process.begin(lambda: self._work(node), lambda: None)
        self.scheduler.at(life.removed, process.kill)
        if life.lost and self.notice_seconds is not None:
            told_at = max(life.added, life.removed - self.notice_seconds)
            notice = Notice("reclaim", "spot", life.removed - told_at)
            self.scheduler.at(told_at, lambda: _tell(process, notice))

    def _work(self, node: ReplayedNode) -> object:
        process, realism = node.process, self.realism
        process.sleep(realism.boot_seconds)
        ledger = Ledger(SimStore(self.bucket, process), RUN, self._files)
        machine = Node(instance_id=process.name)
        begun = begin_session(
            *(ledger, process, process.name),
            boot_seconds=realism.boot_seconds,
            lease_seconds=realism.lease_seconds,
        )
        settings = WorkerSettings(
            worker_id=process.name,
            output_uri="memory://answers/",
            chunk_rows=1_000_000,
            chunk_seconds=realism.chunk_seconds,
            lease_seconds=realism.lease_seconds,
            node=machine,
        )
        claimer = Claimer(
            *(self.shards, ledger, self.source, process, process.name, realism.lease_seconds)
        )
        with Threads(process, realism.threads) as threads:
            errands = Errands(threads, threads.wait_for, lambda: SimEvent(process))
            beats = Beats(begun, ledger, errands, process, Patience(process))
            beats.tell_price(machine, Fraction(1), _PRICE)
            try:
                return Worker(
                    settings,
                    lambda _: _PROVENANCE,
                    ledger,
                    claimer,
                    lambda _: self._load(node),
                    process,
                    process,
                    errands,
                    beats,
                ).run()
            except Interrupted as reason:
                return reason

    def _load(self, node: ReplayedNode) -> Engine:
        realism, process = self.realism, node.process
        process.sleep(realism.load_seconds)
        node.loaded_at = self.scheduler.now
        node.engine = CoarseEngine(realism.window, realism.tokens, realism.step_seconds, process)
        return node.engine

    def _seconds_of(self, node: ReplayedNode) -> NodeSeconds:
        life, process = node.life, node.process
        over_at = process.over_at
        assert over_at is not None
        drained = isinstance(process.ending, Interrupted)
        assert drained or process.ending == "killed", f"{process.name} ended with {process.ending}"
        if node.engine is None:
            return NodeSeconds(cold=over_at - life.added, after_drain=life.removed - over_at)
        last_step = node.engine.last_at - process.origin
        decoding = node.engine.decoded * self.realism.step_seconds / self.realism.window
        cut = 0.0 if drained else min(over_at - last_step, self.realism.step_seconds)
        drain = over_at - last_step if drained else 0.0
        return NodeSeconds(
            cold=node.loaded_at - life.added,
            decoding=decoding,
            cut=cut,
            drain=drain,
            after_drain=life.removed - over_at,
            idle=over_at - node.loaded_at - decoding - cut - drain,
        )

    # What is durable.

    def _checkpoints(self) -> Sequence[str]:
        return self.bucket.memory.list(checkpoints_prefix(RUN))

    def _sweep(self) -> None:
        """Count what was published, and keep no more of it than that it was."""
        memory = self.bucket.memory
        for key in self._checkpoints():
            # Counted at an earlier sweep, so that nobody is reading it any more.
            named = checkpoint_of(key)
            if named and named.shard_id in self._published_tokens:
                self._files.kept.pop(memory.get(key) or b"")
                memory.delete(key)
        for key in memory.list(parts_prefix(RUN)):
            shard_id = shard_of_part(key)
            assert shard_id is not None
            if shard_id not in self._published_tokens:
                rows = JsonFormat().rows_of_part(memory.get(key) or b"")
                self._published_tokens[shard_id] = sum(row.completion_tokens for row in rows)
                memory.put(key, b"")

    def _saved(self, shard_id: int) -> int:
        """Tokens of an unpublished shard that a successor would find."""
        memory = self.bucket.memory
        bodies = map(memory.get, memory.list(checkpoints_prefix(RUN, shard_id)))
        progress = fold(self._files.decode_checkpoint(body) for body in bodies if body)
        finished = progress.finished
        return sum(finished[row].completion_tokens for row in finished) + sum(
            map(len, progress.in_flight.values())
        )


def _tell(process: Process, notice: Notice) -> None:
    process.tell(notice)
