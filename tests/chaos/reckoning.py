"""What became of a run under fire: its rows against an undisturbed run's, its books against the
engines' own counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import duckdb

from pipeline.core import layout
from pipeline.core.bills import ENDED
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.ports import ObjectStore
from pipeline.core.session import Session
from pipeline.dataset.file_format import ParquetFormat
from pipeline.ledger import Ledger
from tests.chaos.processes import RunProcess

Saved: TypeAlias = dict[tuple[int, int], int]
"""Tokens by shard and epoch."""


@dataclass(frozen=True, slots=True)
class Rows:
    """`different` are rows whose answer is not the undisturbed run's."""

    published: int
    lost: int
    twice: int
    different: int

    @property
    def sound(self) -> bool:
        return (self.lost, self.twice, self.different) == (0, 0, 0)


def compare_rows(store: ObjectStore, run_id: str, calm: str, rows: int, folder: Path) -> Rows:
    """The published rows, read with DuckDB as a user would, against the first `rows` ids of those
    under `calm` (a glob)."""
    folder.mkdir(parents=True)
    for key in store.list(layout.parts_prefix(run_id)):
        body = store.get(key)
        assert body is not None, key
        (folder / Path(key).name).write_bytes(body)
    parts = f"{folder}/**/*.parquet"
    with duckdb.connect() as connection:
        for name, glob, where in (("fought", parts, "true"), ("calm", calm, f"id < {rows}")):
            connection.read_parquet(glob, hive_partitioning=False).filter(where).create(name)
        counts = (
            "select count(*) from fought",
            "select count(*) from (select id from calm except select id from fought)",
            "select count(*) - count(distinct id) from fought",
            "select count(*) from (select * from fought except select * from calm)",
        )
        return Rows(*(_number(connection, query) for query in counts))


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(number,)] = connection.sql(query).fetchall()
    return int(number)


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """One worker's tokens: `decoded` by its engine's own count, `beaten` by its last beat, `saved`
    by its last checkpoints and publications, `recorded` by whichever is newer for each shard."""

    worker_id: str
    state: str
    decoded: int
    beaten: int
    saved: int
    recorded: int

    @property
    def over(self) -> bool:
        return self.state in ENDED

    @property
    def unrecorded(self) -> int:
        """Decoded after the last durable record. Negative would be tokens nobody decoded."""
        return self.decoded - self.recorded


@dataclass(frozen=True, slots=True)
class Books:
    """The manifest's tokens against the engines' counters."""

    decoded: int
    published: int
    wasted: int
    workers: Sequence[WorkerCount] = field(default_factory=tuple)

    @property
    def unrecorded(self) -> int:
        """Decoded by workers that died, after their last durable record: nobody can know of them
        but the engines' own counters."""
        return sum(worker.unrecorded for worker in self.workers if not worker.over)

    @property
    def missing(self) -> int:
        """What is on record, and in no sum of the manifest. Exact books have 0."""
        return self.decoded - self.unrecorded - self.published - self.wasted

    @property
    def wrong(self) -> list[str]:
        """Workers whose own records cannot be true."""
        return [
            f"worker {w.worker_id} ({w.state}): {w.decoded} decoded, {w.recorded} on record"
            for w in self.workers
            if w.unrecorded < 0 or (w.over and w.unrecorded)
        ]


def read_books(
    ledger: Ledger,
    store: ObjectStore,
    counters: Mapping[int, int],
    seen: Mapping[int, RunProcess],
) -> Books:
    """`counters` are tokens decoded by process; `seen` says which worker that was."""
    manifest = ledger.run_manifest()
    assert manifest is not None, "the run is not complete"
    decoded: Counter[str] = Counter()
    for pid, tokens in counters.items():
        process = seen.get(pid)
        decoded[process.worker_id or "?" if process else f"unseen process {pid}"] += tokens
    sessions = ledger.sessions.all()
    saved = _saved(ledger, store)
    names = sorted(decoded.keys() | sessions.keys())
    workers = tuple(
        _count_of(name, sessions.get(name), decoded[name], saved.get(name, {})) for name in names
    )
    tokens = manifest["tokens"]
    return Books(sum(counters.values()), tokens["output"], tokens["wasted"], workers)


def _count_of(name: str, session: Session | None, decoded: int, saved: Saved) -> WorkerCount:
    in_all = sum(saved.values())
    if session is None:
        return WorkerCount(name, "never beat", decoded, 0, in_all, in_all)
    if session.over:
        # Its last beat is later than all else.
        recorded = session.decoded
    else:
        held = {(shard, a.epoch): a.decoded for shard, a in session.shards.items()}
        let_go = sum(tokens for where, tokens in saved.items() if where not in held)
        # What a beat counts beyond these was decoded for shards that were lost to others.
        dropped = max(0, session.decoded - sum(held.values()) - let_go)
        newest = sum(max(tokens, saved.get(where, 0)) for where, tokens in held.items())
        recorded = newest + let_go + dropped
    return WorkerCount(name, session.state, decoded, session.decoded, in_all, recorded)


def _saved(ledger: Ledger, store: ObjectStore) -> dict[str, Saved]:
    """Tokens that a worker's checkpoints, and the parts it published, answer for."""
    saved: defaultdict[str, Saved] = defaultdict(dict)
    for point in _checkpoints(ledger.run_id, store):
        where = (point.shard_id, point.epoch)
        of_worker = saved[point.attempt.worker_id]
        of_worker[where] = max(of_worker.get(where, 0), point.attempt.tokens.output)
    for manifest in ledger.shard_manifests(ledger.published()):
        attempt = manifest["attempts"][-1]
        where = (manifest["shard_id"], attempt["epoch"])
        saved[attempt["worker_id"]][where] = attempt["tokens"]["output"]
    return dict(saved)


def _checkpoints(run_id: str, store: ObjectStore) -> list[Checkpoint]:
    bodies = (store.get(key) for key in store.list(layout.checkpoints_prefix(run_id)))
    return [ParquetFormat().decode_checkpoint(body) for body in bodies if body is not None]
