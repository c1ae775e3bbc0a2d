"""What holds at the end of every night, whatever happened in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from pipeline.core.rows import FinishedRow, Request
from pipeline.core.session import Session
from pipeline.engines.scripted import ScriptedEngine
from pipeline.errands import Errands  # noqa: F401
from pipeline.verify import problems
from tests.simulation.memory_rows import Row, rows_of_part
from tests.simulation.universe import ENGINE, Universe, WorkerProcess

RUN_COUNTS_ALL_WASTE = False
"""Whether a run's manifest counts tokens that no shard's manifest accounts for."""


def broken(universe: Universe) -> Iterator[str]:
    """Every invariant that does not hold, in a sentence; nothing for a good night."""
    yield from _ended(universe)
    manifest = universe.ledger.run_manifest()
    if manifest is None:
        yield "the run is not finished"
        return
    if any(other != manifest for other in universe.manifests):
        yield "two supervisors were told of different manifests"
    yield from problems(universe.ledger, universe.shards, universe.source)
    yield from _rows(universe)
    yield from _money(universe, manifest)
    yield from _tokens(universe, manifest)


def _ended(universe: Universe) -> Iterator[str]:
    expected = ("WorkerReport", "Interrupted", "StoreUnavailable", "str")
    for worker in universe.workers.values():
        if type(worker.process.ending).__name__ not in expected:
            yield f"{worker.process.name} ended with {worker.process.ending!r}"


def _rows(universe: Universe) -> Iterator[str]:
    for shard_id, rows in universe.night.rows.items():
        part = universe.ledger.part(shard_id)
        expected = [answer(number, row) for number, row in enumerate(rows)]
        if part is not None and rows_of_part(part) != expected:
            yield f"shard {shard_id}: not the rows of an undisturbed run"


@cache
def answer(number: int, row: Row) -> FinishedRow:
    """What a row's answer is, by the engine alone: no worker, no store, no interruption."""
    engine = ScriptedEngine(ENGINE, lambda _: None)
    if not row.prompt:
        return FinishedRow(number, error="the prompt is empty")
    tokens = tuple(row.prompt.encode())
    if len(tokens) >= ENGINE.max_model_len:
        window = ENGINE.max_model_len
        return FinishedRow(
            number, error=f"the prompt has {len(tokens)} tokens, the window is {window}"
        )
    engine.submit(Request("0", tokens, row.sampling))
    done = None
    while done is None:
        done = next(iter(engine.step()), None)
    return FinishedRow(
        number,
        completion=done.text,
        finish_reason=done.finish_reason,
        prompt_tokens=len(tokens),
        completion_tokens=len(done.token_ids),
    )


def _money(universe: Universe, manifest: Mapping[str, Any]) -> Iterator[str]:
    cost, workers = manifest["cost"], manifest["workers"]
    total = Decimal(cost["total"])
    if Decimal(cost["allocated"]) + Decimal(cost["unallocated"]) != total:
        yield f"{cost['allocated']} allocated + {cost['unallocated']} unallocated is not {total}"
    if sum(Decimal(worker["cost"]) for worker in workers) != total:
        yield "the workers' bills do not sum to the total"
    for row in (*workers, *manifest["unallocated"]):
        if min(row["seconds"].values()) < 0:
            yield f"{row['worker_id']}: negative seconds {row['seconds']}"
    billed = {worker["worker_id"]: worker for worker in workers}
    closing_since = universe.closing_since[manifest["started_at"]]
    for worker_id, session in universe.ledger.sessions().items():
        worker = universe.workers[worker_id]
        lived = round((worker.process.second_of(session.beat_at) - worker.process.born_at) * 1e6)
        if session.buckets.total != lived:
            yield f"{worker_id}: billed {session.buckets.total} of {lived} microseconds"
        if session.over and worker.process.second_of(session.beat_at) < closing_since:
            if worker_id not in billed:
                yield f"{worker_id}: its bill is not in the run's"
            elif Decimal(billed[worker_id]["cost"]) != session.bill.usd:
                yield f"{worker_id}: its bill is not the run's"


def _tokens(universe: Universe, manifest: Mapping[str, Any]) -> Iterator[str]:
    published = manifest["tokens"]["output"]
    sessions = universe.ledger.sessions()
    decoded = 0
    for worker_id, worker in universe.workers.items():
        decoded += worker.tally.decoded
        if worker_id in sessions:
            yield from _session_tokens(worker, sessions[worker_id])
    night = universe.night
    if night.kind == "notices" and night.exact and decoded != published:
        yield f"{decoded} tokens decoded for {published}, though every notice left enough time"


def _session_tokens(worker: WorkerProcess, session: Session) -> Iterator[str]:
    name, true = worker.process.name, worker.tally.decoded
    if session.over and session.decoded != true:
        yield f"{name}: decoded {true} tokens, says {session.decoded}"
    at_beat = worker.tally.by(worker.process.second_of(session.beat_at))
    if session.decoded != at_beat:
        yield f"{name}: had decoded {at_beat} tokens at its last beat, says {session.decoded}"
