"""What holds of the single records of a night: checkpoints, attempts, leases, sessions.

Sums can be right though each of them is wrong: a lost row is generated again, and every total
still adds up. These are the rules of DESIGN §4, §5 and §7 that no total shows.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core import layout
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.money import Buckets
from pipeline.core.portion import AttemptName
from pipeline.worker import WorkerReport
from tests.simulation.memory_rows import JsonFormat
from tests.simulation.universe import RUN, Universe

_ALONE_STRIKES = 2
_MAY_CHANGE = (
    layout.sessions_prefix(RUN),
    layout.shard_manifests_prefix(RUN),
    layout.allowance_key(RUN),
)


def attempt_name(shard_id: int, attempt: Mapping[str, Any]) -> AttemptName:
    """Of an attempt as manifests have it."""
    portion = attempt.get("portion", {"number": 0, "take": 0})
    return AttemptName(shard_id, attempt["epoch"], portion["number"], portion["take"])


def broken_records(universe: Universe) -> Iterator[str]:
    """Every rule that a record breaks, in a sentence. For nights that were finished."""
    yield from _overwritten(universe)
    yield from _checkpoints(universe)
    manifests = list(_manifests(universe))
    for shard_id, manifest in manifests:
        yield from _attempts(universe, shard_id, manifest)
        yield from _quarantine(universe, shard_id, manifest)
    yield from _sessions(universe, [manifest for _, manifest in manifests])
    yield from _zombies(universe)


def _manifests(universe: Universe) -> Iterator[tuple[int, dict[str, Any]]]:
    for shard_id in universe.night.rows:
        part = universe.ledger.part(shard_id)
        manifest = None if part is None else universe.ledger.manifest_of_part(part)
        if manifest is not None:
            yield shard_id, manifest


def _overwritten(universe: Universe) -> Iterator[str]:
    for key in universe.bucket.put_at:
        if not key.startswith(_MAY_CHANGE):
            yield f"{key} was put, though only a create may make it"


def _checkpoints(universe: Universe) -> Iterator[str]:
    memory, attempts = universe.bucket.memory, defaultdict[AttemptName, list[Checkpoint]](list)
    for key in memory.list(layout.checkpoints_prefix(RUN)):
        point = JsonFormat().decode_checkpoint(memory.get(key) or b"")
        named = layout.checkpoint_of(key)
        assert named is not None
        name = AttemptName(named.shard_id, named.epoch, named.portion, named.take)
        attempts[name].append(point)
        if name != attempt_name(point.shard_id, point.attempt.to_json()):
            yield f"{key} tells of another attempt, {point.attempt}"
    for attempt, points in attempts.items():
        rows: set[int] = set()
        strikes: set[int] = set()
        for point in sorted(points, key=lambda point: point.seq):
            rows |= {row.row for row in point.finished}
            strikes |= {strike.nth for strike in point.strikes}
            said = f"checkpoint {point.seq} of {attempt}"
            if len(rows) != point.attempt.rows:
                yield f"{said}: {point.attempt.rows} rows finished, {len(rows)} of them saved"
            if strikes and len(strikes) != max(strikes) - min(strikes) + 1:
                yield f"{said}: of the strikes, only {sorted(strikes)} are saved"


def _attempts(universe: Universe, shard_id: int, manifest: dict[str, Any]) -> Iterator[str]:
    attempts, sessions = manifest["attempts"], universe.ledger.sessions.all()
    epochs = [attempt["epoch"] for attempt in attempts if "portion" not in attempt]
    if epochs != list(range(1, len(epochs) + 1)):
        yield f"shard {shard_id}: its manifest tells of the epochs {epochs} alone"
    made_at = {key: second for second, key in universe.bucket.made}
    for attempt in attempts:
        worker, epoch, tokens = attempt["worker_id"], attempt["epoch"], attempt["tokens"]
        name = attempt_name(shard_id, attempt)
        if attempt["end"] == "superseded":
            yield from _dead_all_along(universe, name, worker, made_at)
        account = sessions[worker].account(name) if worker in sessions else None
        dropped = worker in sessions and shard_id in sessions[worker].dropped
        if attempt["end"] != "lost" or account is None or (dropped and not name.portion):
            continue
        next_take = layout.take_key(RUN, *name[:3], name.take + 1)
        next_lease = layout.lease_key(RUN, shard_id, epoch + 1)
        # Nobody need look at a take any more that came when all the portion's rows were there.
        taken_at = made_at.get(next_take, -math.inf) if name.portion else made_at[next_lease]
        if universe.told_at(sessions[worker]) >= taken_at:
            continue
        decoded = tokens["output"] + tokens["wasted"]
        buckets = Buckets.from_seconds(attempt["seconds"])
        micros = buckets.useful + buckets.wasted
        if decoded < account.decoded or micros < account.useful_micros:
            yield (
                f"{name}: charged with {decoded} tokens, {micros} us, "
                f"{worker} had told of {account}"
            )


def _dead_all_along(
    universe: Universe, name: AttemptName, worker: str, made_at: Mapping[str, float]
) -> Iterator[str]:
    """Whoever is called superseded lived on after the claim of its successor."""
    weather = universe.night.weather
    session = universe.ledger.sessions.of(worker)
    assert session is not None
    over_at = universe.worker_of(session).process.over_at
    # What was sent before a death may arrive after it.
    arrives = weather.slow_seconds if weather.slow or weather.late else 2 * weather.latency
    claimed_at = made_at[layout.lease_key(RUN, name.shard_id, name.epoch + 1)]
    if over_at is not None and over_at + arrives < claimed_at:
        yield f"{name}: {worker} is called superseded, and was gone {claimed_at - over_at} s before"


def _quarantine(universe: Universe, shard_id: int, manifest: dict[str, Any]) -> Iterator[str]:
    rows = JsonFormat().rows_of_part(universe.ledger.part(shard_id) or b"")
    # Rows that ask the same as one of them share its fate, and point to its evidence.
    given_up = {
        row.row
        for row in rows
        if (row.error or "").startswith("quarantined")
        if not (row.error or "").endswith("asks the same)")
    }
    if given_up != {entry["row"] for entry in manifest["quarantined"]}:
        yield f"shard {shard_id}: rows {sorted(given_up)} given up, {manifest['quarantined']} said"
    for entry in manifest["quarantined"]:
        alone = [s for s in entry["strikes"] if s["rows"] == [entry["row"]] and not s["beside"]]
        if len(alone) < _ALONE_STRIKES:
            yield f"shard {shard_id}: row {entry['row']} given up on the evidence {alone}"


def _sessions(universe: Universe, manifests: list[dict[str, Any]]) -> Iterator[str]:
    """A worker's useful seconds are those of what it published; its last beat says so."""
    newest = universe.ledger.latest_epochs()
    published, undisputed = Counter[str](), Counter[str]()
    for manifest in manifests:
        last = manifest["attempts"][-1]
        micros = round(last["seconds"]["useful"] * 1e6)
        published[last["worker_id"]] += micros
        # Whoever drops a shard while its part is on the way cannot know that it will count.
        if last["epoch"] == newest[manifest["shard_id"]]:
            undisputed[last["worker_id"]] += micros
            for attempt in manifest["attempts"]:
                if "portion" in attempt and attempt["end"] == "drained":
                    undisputed[attempt["worker_id"]] += round(attempt["seconds"]["useful"] * 1e6)
    for name, session in universe.ledger.sessions.all().items():
        process, latency = universe.worker_of(session).process, universe.night.weather.latency
        if not isinstance(process.ending, WorkerReport):
            continue
        told_at = process.second_of(session.beat_at)
        after = (process.over_at or 0.0) - told_at
        if universe.night.answers and not universe.night.freezes and after > 10 * latency + 1:
            yield f"{name} lived for {after} s after the beat that was to tell of all"
        useful = session.buckets.useful
        # What was handed over was useful to whoever handed it over, published or not.
        published[name] += sum(account.useful_micros for account in session.portions.values())
        if session.over and not undisputed[name] <= useful <= published[name]:
            yield f"{name}: {useful} useful microseconds, {published[name]} in what it published"
        if universe.night.answers and not session.over:
            yield f"{name} ended, and its session did not"


def _zombies(universe: Universe) -> Iterator[str]:
    """Nobody goes on with a shard of another, or ends with one of its own in hand."""
    night, pace, calm = universe.night, universe.night.pace, universe.calm_weather_from
    latency = 2 * night.weather.latency
    # Until the second beat from now is answered, by few threads that have other calls to make.
    longest = pace.lease_seconds / 2 + 4 * pace.step_seconds + 30 * latency
    for name, worker in universe.workers.items():
        for attempt, steps in worker.tally.steps_as_zombie.items():
            if steps * pace.step_seconds > longest:
                yield f"{name}: {steps} steps for {attempt}, which somebody else had"
    made_at = {key: second for second, key in universe.bucket.made}
    sessions = universe.ledger.sessions.all()
    for key, claimed in made_at.items():
        named = layout.lease_of(key)
        lease = universe.ledger.lease(*named) if named else None
        process = universe.worker_of(sessions[lease.worker_id]).process if lease else None
        if lease is None or process is None or not isinstance(process.ending, WorkerReport):
            continue
        over_at = process.over_at or 0.0
        next_key = layout.lease_key(RUN, lease.shard_id, lease.epoch + 1)
        part_key = layout.part_key(RUN, lease.shard_id)
        settled_at = min(made_at.get(next_key, math.inf), made_at.get(part_key, math.inf))
        # Of a claim that arrives late, a worker may hear nothing before it ends.
        heard_of = max(claimed, calm) + pace.lease_seconds if night.weather.late else claimed
        if settled_at > over_at > heard_of:
            yield f"{process.name} ended with shard {lease.shard_id} in hand, and unpublished"
