"""What holds at the end of every night, whatever happened in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from pipeline.core.bills import ENDED
from pipeline.core.budget import seconds_usd
from pipeline.core.errors import EngineDied, RowRejected
from pipeline.core.outlived import outlived
from pipeline.core.portion import AttemptName
from pipeline.core.rows import FinishedRow, Request
from pipeline.core.session import Session
from pipeline.engines.scripted import ScriptedEngine
from pipeline.verify import problems
from tests.simulation.markets import Market, prices_between
from tests.simulation.memory_rows import JsonFormat, Row
from tests.simulation.night import Night
from tests.simulation.records import attempt_name, broken_records
from tests.simulation.universe import ENGINE, Universe, WorkerProcess

QUARANTINED = "quarantined"
_CALLS_OF_A_RECORD = 4
_ROUNDING = 1e-4


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
    yield from _prices(universe)
    yield from _lives(universe, manifest)
    yield from _tokens(universe, manifest)
    yield from broken_records(universe)


def _ended(universe: Universe) -> Iterator[str]:
    expected = ("WorkerReport", "Interrupted", "StoreUnavailable", "str")
    for worker in universe.workers.values():
        if type(worker.process.ending).__name__ not in expected:
            yield f"{worker.process.name} ended with {worker.process.ending!r}"


def _rows(universe: Universe) -> Iterator[str]:
    for shard_id, rows in universe.night.rows.items():
        part = universe.ledger.part(shard_id)
        if part is None:
            continue
        for number, (row, found) in enumerate(
            zip(rows, JsonFormat().rows_of_part(part), strict=True)
        ):
            expected = answer(number, row)
            if expected.error == QUARANTINED and (found.error or "").startswith(QUARANTINED):
                continue
            if replace(found, cached_tokens=0) != expected:
                yield f"shard {shard_id}: {found}, in an undisturbed run {expected}"


def answer(number: int, row: Row) -> FinishedRow:
    """What a row's answer is, by the engine alone: no worker, no store, no interruption."""
    engine = ScriptedEngine(ENGINE, lambda _: None)
    if not row.prompt:
        return FinishedRow(number, error="the prompt is empty")
    tokens = tuple(row.prompt.encode())
    try:
        engine.submit(Request("0", tokens, row.sampling))
        done = None
        while done is None:
            done = next(iter(engine.step()), None)
    except RowRejected as problem:
        return FinishedRow(number, error=str(problem))
    except EngineDied:
        return FinishedRow(number, error=QUARANTINED)
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
    weather = universe.night.weather
    lag = weather.stale_seconds if weather.stale else 0.0
    sessions = universe.ledger.sessions.all()
    after = outlived(manifest, (session.bill for session in sessions.values()))
    later = {worker.worker_id: worker.seconds for worker in after}
    for worker_id, session in sessions.items():
        worker = universe.worker_of(session)
        told = sum(billed[worker_id]["seconds"].values()) if worker_id in billed else 0.0
        due = session.bill.buckets
        if told + later.get(worker_id, 0.0) < due.total / 1e6 - _ROUNDING:
            yield f"{worker_id}: {told} s billed, {later} s after the closing, {due}"
        lived = round((worker.process.second_of(session.beat_at) - worker.process.born_at) * 1e6)
        unbilled = lived - session.buckets.total
        # A beat in a worker's stead knows of all but of what goes on, where that is not long yet.
        least = 1 if session.over else 1.5 * universe.night.pace.lease_seconds / 4 * 1e6
        if not 0 <= unbilled < least:
            yield f"{worker_id}: billed {session.buckets.total} of {lived} microseconds"
        # What a listing does not show yet is spent after the closing.
        in_time = universe.told_at(session) < closing_since - lag
        if session.over and in_time:
            if worker_id not in billed:
                yield f"{worker_id}: its bill is not in the run's"
            elif Decimal(billed[worker_id]["cost"]) != session.bill.usd:
                yield f"{worker_id}: its bill is not the run's"


def _prices(universe: Universe) -> Iterator[str]:
    """Each second costs what it cost when it was, but for what is heard of a little later."""
    night = universe.night
    if not night.answers or night.freezes or night.poison:
        return
    pace = night.pace
    # While a worker drains, nobody looks.
    heard_after = pace.lease_seconds / 8 + 2 * pace.step_seconds + pace.close_seconds
    for session in universe.ledger.sessions.all().values():
        process = universe.worker_of(session).process
        # One that came back is no longer where it was told first.
        first = next(span.price for span in session.spans if span.buckets.boot)
        market = universe.quotes_of(process, first)
        if not isinstance(market, Market) or session.untold:
            continue
        began = process.born_at + session.buckets.boot / 1e6
        end = process.second_of(session.beat_at)
        if not session.over:
            end = began + (session.buckets.total - session.buckets.boot) / 1e6
        due, moved, before = Decimal(0), Decimal(0), first.usd_per_hour or Decimal(0)
        for price, seconds in prices_between(market, began, end):
            usd = price.usd_per_hour or Decimal(0)
            due += seconds_usd(seconds, usd)
            moved += abs(usd - before)
            before = usd
        booted = seconds_usd(session.buckets.boot / 1e6, first.usd_per_hour or Decimal(0))
        off = abs((session.bill.usd or Decimal(0)) - booted - due)
        if off > seconds_usd(heard_after, moved) + Decimal("1e-9"):
            yield f"{session.worker_id}: {off} USD off the market's prices, which moved by {moved}"


def _lives(universe: Universe, manifest: Mapping[str, Any]) -> Iterator[str]:
    """How long those that never ended lived, beside what the books say of it."""
    night, closer = universe.night, universe.closed_by[manifest["started_at"]]
    closed_at = closer.second_of(manifest["finished_at"])
    # Neither the store nor a machine stands still.
    always_beats = night.answers and not night.freezes
    sessions = universe.ledger.sessions.all()
    for worker in manifest["workers"]:
        if worker["state"] in ENDED:
            continue
        process = universe.worker_of(sessions[worker["worker_id"]]).process
        uncertain = worker["uncertain"]
        unbilled = -process.born_at - sum(worker["seconds"].values())
        beyond = min(closed_at, process.over_at or math.inf) + unbilled
        if beyond < -_ROUNDING:
            yield f"{process.name}: billed for {-beyond} s more than it lived"
        at_most = uncertain["until_closed"]["seconds"]
        # Two machines' clocks: what they are wrong by is in it, and it is never less than nothing.
        wrong = closer.skew - process.skew
        if abs(at_most - max(0.0, closed_at + unbilled + wrong)) > _ROUNDING:
            yield f"{process.name}: at most {at_most} s beyond its bill, of {closed_at + unbilled}"
        if at_most and beyond > at_most - wrong + _ROUNDING:
            yield f"{process.name}: lived {beyond} s beyond its bill, at most {at_most - wrong}"
        if always_beats and beyond > uncertain["seconds"] + _ROUNDING:
            yield f"{process.name}: lived {beyond} s beyond its bill, {uncertain['seconds']} said"


def _attempts(universe: Universe) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for shard_id in universe.night.rows:
        part = universe.ledger.part(shard_id)
        shard = None if part is None else universe.ledger.manifest_of_part(part)
        for attempt in shard["attempts"] if shard else ():
            yield shard_id, attempt


def _tokens(universe: Universe, manifest: Mapping[str, Any]) -> Iterator[str]:
    night, sessions = universe.night, universe.ledger.sessions.all()
    wasted = manifest["tokens"]["wasted"]
    # Copies of another row's answer are published, and nobody decoded them.
    published = manifest["tokens"]["output"] - manifest["tokens"]["copied"]
    decoded = sum(worker.tally.decoded for worker in universe.workers.values())
    if published + wasted > decoded:
        yield f"{published} tokens published and {wasted} wasted, but only {decoded} decoded"
    closing_since = universe.closing_since[manifest["started_at"]]
    last_words = (universe.told_at(session) for session in sessions.values())
    if all(second < closing_since for second in last_words):
        recorded = _recorded(universe, sessions)
        if published + wasted != recorded:
            yield f"{published} tokens published and {wasted} wasted, but {recorded} recorded"
    for session in sessions.values():
        yield from _session_tokens(night, universe.worker_of(session), session)
    yield from _tokens_twice(universe, decoded - published)


def _recorded(universe: Universe, sessions: Mapping[str, Session]) -> int:
    """Tokens that anything durable tells of: sessions that ended know them all, of the others
    their last beat tells, or checkpoints after it."""
    charged: Counter[tuple[str, AttemptName]] = Counter()
    for shard_id, attempt in _attempts(universe):
        tokens = attempt["tokens"]["output"] + attempt["tokens"]["wasted"]
        charged[attempt["worker_id"], attempt_name(shard_id, attempt)] += tokens
    total = sum(session.decoded for session in sessions.values() if session.over)
    for name, session in sessions.items():
        if not session.over:
            beaten = {(name, attempt): n for attempt, n in session.bill.attempts.items()}
            mine = {attempt for attempt in charged if attempt[0] == name}
            total += sum(max(beaten.get(a, 0), charged[a]) for a in mine | beaten.keys())
            total += session.unshared
    return total


def _session_tokens(night: Night, worker: WorkerProcess, session: Session) -> Iterator[str]:
    name, tally = session.worker_id, worker.tally
    if session.over and session.decoded != tally.decoded:
        yield f"{name}: decoded {tally.decoded} tokens, says {session.decoded}"
    at_beat = tally.by(worker.process.second_of(session.beat_at))
    if session.decoded > at_beat or not tally.was(session.decoded):
        yield f"{name}: had decoded {at_beat} tokens at its last beat, says {session.decoded}"
    unrecorded = tally.decoded - session.decoded
    if night.kind == "kills" and unrecorded > most_lost(night, night.pace.lease_seconds / 4):
        yield f"{name}: {unrecorded} tokens are in no beat"


def _tokens_twice(universe: Universe, twice: int) -> Iterator[str]:
    night = universe.night
    if not night.exact:
        return
    if night.kind == "notices" and twice:
        yield f"{twice} tokens decoded twice, though every notice left enough time"
    if night.kind == "kills":
        killed = sum(worker.process.ending == "killed" for worker in universe.workers.values())
        if twice > killed * most_lost(night, night.pace.chunk_seconds):
            yield f"{twice} tokens decoded twice after {killed} kills"


def most_lost(night: Night, every_seconds: float) -> int:
    """Tokens decoded between two records, made every so many seconds, and until they are stored.

    A record is due only between two steps, and may wait for the last one and for a few calls.
    """
    pace = night.pace
    seconds = every_seconds + 2 * pace.step_seconds + _CALLS_OF_A_RECORD * 2 * night.weather.latency
    return pace.window * (math.ceil(seconds / pace.step_seconds) + 1)
