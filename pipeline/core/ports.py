"""What the outside must offer. Everything above the adapters sees these and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from pipeline.core.checkpoint import Checkpoint
from pipeline.core.fleet import WorkerEnd
from pipeline.core.money import NodePrice
from pipeline.core.notice import Notice
from pipeline.core.rows import Completion, EngineMetrics, FinishedRow, Prompt, Request, Sampling
from pipeline.core.shards import Shard

Body: TypeAlias = bytes | Path
"""What is written to a store: in memory or, as it may be too large for that, a file that nobody
changes meanwhile."""


class ObjectStore(Protocol):
    """Five verbs over flat keys. Keys are relative, `/`-separated, and come from `layout`.

    Every verb raises `StoreUnavailable` when it may work later and `StoreDenied` when it will not.
    """

    def get(self, key: str) -> bytes | None:
        """The whole object, or None when there is none."""
        ...

    def put(self, key: str, body: bytes) -> None:
        """Write the object, replacing what was there; readers see the old or the new, whole."""
        ...

    def create(self, key: str, body: Body) -> bool:
        """Write the object unless one is there. True to exactly one caller: the one that made it.

        A caller whose answer may have been lost is told True only if the stored body equals its
        own, so bodies that can race carry something unique to the attempt (DESIGN §4.6).
        """
        ...

    def list(self, prefix: str) -> Sequence[str]:
        """Keys that begin with `prefix`, sorted. `prefix` need not end at a `/`."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds; only differences mean anything, and only within one process."""
        ...

    def timestamp(self) -> str:
        """The wall clock in ISO 8601, UTC: for people to read, never to decide by."""
        ...

    def sleep(self, seconds: float) -> None: ...


class Engine(Protocol):
    """One loaded model that is fed continuously. Called from one thread, but for `encode`."""

    @property
    def window(self) -> int:
        """Unfinished requests that keep the engine busy; more only cost memory."""
        ...

    @property
    def version(self) -> str:
        """Name and version for the manifest, such as `vllm 0.32.0`."""
        ...

    @property
    def own_process(self) -> bool:
        """Whether a row that kills the engine leaves this process alive, to see `EngineDied`."""
        ...

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt, chat template applied. Thread-safe. Raises `RowRejected`."""
        ...

    def submit(self, request: Request) -> None:
        """Queue a request. Raises `RowRejected` when the engine refuses this one, and `EngineDied`
        when it takes none any more."""
        ...

    def step(self) -> Sequence[Completion]:
        """Advance every running request by one iteration; the requests that finished in it.

        Raises `EngineDied`, with its last words, when it will give no more tokens: it died, or it
        hung. Of a dead engine, only `in_flight`, `metrics`, `encode` and `close` may be called, and
        they raise nothing.
        """
        ...

    def in_flight(self) -> Mapping[str, Sequence[int]]:
        """Tokens generated so far, saved ones included, of every unfinished request, as they are
        until the next step: copy what is to be kept. Answers after a death as well, with what was
        known of them, and never raises."""
        ...

    def abort(self, request_ids: Iterable[str]) -> None: ...

    def metrics(self) -> EngineMetrics:
        """Counters since the engine started."""
        ...

    def close(self) -> None:
        """Give back what it holds, dead or alive. Never raises; another may be loaded then."""
        ...


@runtime_checkable
class Speculating(Protocol):
    """An engine that can be told to make fewer drafts while it runs. Not every `Engine` is one."""

    @property
    def draft_depth(self) -> int:
        """Drafts a row that it was loaded for; 0 when it makes none, or always as many."""
        ...

    def speculate(self, depth: int) -> None:
        """At most `depth` drafts a row from the next step on; at 0 none, and the engine is as fast
        as without. Answers stay what they are. Raises `EngineDied`."""
        ...

    def forget_prefixes(self) -> None:
        """Empty the prefix cache. Only with nothing in flight."""
        ...


class InterruptionNotice(Protocol):
    def pending(self) -> Notice | None:
        """The gravest notice so far, or None. Cheap and without I/O: asked in every loop.

        Once told, a notice stays; only a graver one (`risk` < `reclaim` < `stop`) replaces it.
        """
        ...


class PriceQuotes(Protocol):
    def price(self) -> NodePrice:
        """What an hour of this node costs, as far as is known now, and who says so. Waits for no
        answer, as whoever ends waits for the errand that this is; never raises."""
        ...


class ShardInput(Protocol):
    """The rows of one shard, numbered 0..rows-1 in the order in which they will be published."""

    @property
    def rows(self) -> int: ...

    def prompt(self, row: int) -> Prompt:
        """Raises `RowRejected` when the row holds no usable prompt."""
        ...

    def sampling(self, row: int) -> Sampling:
        """The job's sampling with the row's own overrides. Raises `RowRejected`."""
        ...

    def part(
        self, finished: Iterable[FinishedRow], manifest: bytes
    ) -> AbstractContextManager[Body]:
        """The file to publish: carried columns and outputs, `manifest` inside. It may be gone when
        the context is left. Raises `ValueError` unless `finished` is every row once and in order.
        """
        ...

    def difference(self, part: bytes) -> str | None:
        """How a published part's rows differ from these, in words; None when they are the same."""
        ...


class InputSource(Protocol):
    def open(self, shard: Shard) -> ShardInput:
        """Read a shard. Raises `InputChanged` when a file is not the planned one."""
        ...


class FileFormat(Protocol):
    """The bytes of checkpoints and parts."""

    def encode_checkpoint(self, checkpoint: Checkpoint) -> bytes: ...

    def decode_checkpoint(self, body: bytes) -> Checkpoint: ...

    def manifest_of_part(self, body: bytes) -> bytes | None:
        """The manifest a published part carries; None when the object is no such part."""
        ...

    def rows_of_part(self, body: bytes) -> Sequence[FinishedRow]:
        """What a published part answers, row by row. Raises `ObjectDamaged`."""
        ...


class WorkerPool(Protocol):
    """Starts workers somewhere and tells what became of them. Knows nothing of shards.

    Every verb raises `PoolUnavailable` when it may work later.
    """

    def start(self, worker_id: str) -> str:
        """Ask for one worker of this name; returns the pool's own words for it. Asked again for a
        name, since the answer was lost, there is one worker of it all the same."""
        ...

    def ended(self) -> Mapping[str, WorkerEnd]:
        """By worker id, those that ended since the last call, as far as the pool knows."""
        ...

    def running(self) -> int:
        """Workers asked for that `ended` has not told of."""
        ...

    def stop(self) -> None:
        """Ask every worker to drain, and give them a while to do so."""
        ...
