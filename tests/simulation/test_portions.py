"""A straggler's rows are shared: what that gains, and what goes wrong at any of its store calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.core import layout
from pipeline.core.layout import part_key
from pipeline.engines.scripted import DEADLY
from pipeline.verify import problems
from tests.simulation.campaign import failings
from tests.simulation.invariants import broken
from tests.simulation.memory_rows import JsonFormat, Row
from tests.simulation.night import EXACT, RESTARTS, Night, Pace
from tests.simulation.sim_store import BLOWS, Blow, Weather
from tests.simulation.universe import RUN, Universe

STRAGGLER = Night(
    seed=3,
    rows={
        0: tuple(Row(f"row {n} of the long shard", EXACT) for n in range(240)),
        **{shard: (Row(f"a short shard, {shard}", EXACT),) for shard in (1, 2, 3)},
    },
    pace=Pace(workers=4, window=4, chunk_rows=8, chunk_seconds=6.0),
    weather=Weather(latency=0.1),
)
ALONE = replace(STRAGGLER, rows={0: STRAGGLER.rows[0]}, pace=replace(STRAGGLER.pace, workers=1))

SMALL = Night(
    seed=20,
    rows={
        0: tuple(Row(f"hare {n}", RESTARTS if n % 3 == 1 else EXACT) for n in range(7)),
        1: (Row("shy mouse", EXACT),),
    },
    pace=Pace(workers=2, window=1, lease_seconds=8.0, tick_seconds=4.0),
    weather=Weather(latency=0.25, slow_seconds=20.0),
)
RETRIED = replace(SMALL, pace=replace(SMALL.pace, retries=8))


def lived(night: Night) -> Universe:
    universe = Universe(night)
    universe.run()
    assert list(broken(universe)) == []
    return universe


def published_at(universe: Universe, shard_id: int) -> float:
    return next(at for at, key in universe.bucket.made if key == part_key(RUN, shard_id))


def helpers_of(universe: Universe, shard_id: int) -> list[str]:
    manifest = universe.ledger.manifest_of_part(universe.ledger.part(shard_id) or b"")
    assert manifest is not None
    return [a["worker_id"] for a in manifest["attempts"] if "portion" in a and a["rows"]]


def test_three_idle_workers_save_most_of_a_stragglers_time(shared: Universe) -> None:
    alone = lived(ALONE)
    assert len(set(helpers_of(shared, 0))) == 3
    ratio = published_at(shared, 0) / published_at(alone, 0)
    assert ratio < 0.4, "four workers need a quarter, and some seconds to notice and to meet"
    rows = [len(JsonFormat().rows_of_part(u.ledger.part(0) or b"")) for u in (alone, shared)]
    assert rows == [240, 240]


def test_nobody_asks_while_there_is_a_shard_to_claim_or_nobody_is_idle() -> None:
    """What shards cost a store in a fleet that has enough of them, they cost as before."""
    rows = dict.fromkeys(range(8), STRAGGLER.rows[0][:12])
    even = lived(replace(STRAGGLER, rows=rows, pace=replace(STRAGGLER.pace, workers=2)))
    alone = lived(ALONE)
    last_claim = max(at for at, key in even.bucket.made if layout.lease_of(key))
    for universe, until in ((even, last_claim), (alone, 1e9)):
        assert not [key for at, key in universe.bucket.made if at < until and is_of_portion(key)]


def is_of_portion(key: str) -> bool:
    return "/portions/" in key or "/asks/" in key


def calls_for_portions(night: Night) -> list[tuple[str, int]]:
    """Store calls of the undisturbed night for what only portions need: whose, its how many-th."""
    calls: list[tuple[str, int]] = []
    counted: dict[str, int] = {}

    def count(_now: float, process: str, _verb: str, key: str, _outcome: str) -> None:
        number = counted.get(process, 0)
        counted[process] = number + 1
        if is_of_portion(key):
            calls.append((process, number))

    assert failings(night, count) == []
    return calls


def failed_of(night: Night, blow: Blow) -> dict[tuple[str, int], list[str]]:
    calls = calls_for_portions(night)
    assert len({process for process, _ in calls}) == 2, "owner and helper"
    struck = {call: failings(replace(night, strikes={call: blow})) for call in calls}
    return {call: found for call, found in struck.items() if found}


def in_words(blow: Blow) -> str:
    return str(blow).replace("Effect.", "").lower()


@pytest.mark.parametrize("blow", BLOWS, ids=in_words)
def test_a_blow_at_any_call_for_a_portion(blow: Blow) -> None:
    assert failed_of(SMALL, blow) == {}


@pytest.mark.nightly
@pytest.mark.parametrize("blow", BLOWS, ids=in_words)
def test_a_blow_at_any_call_for_a_portion_where_calls_are_retried(blow: Blow) -> None:
    assert failed_of(RETRIED, blow) == {}


def test_owner_and_helper_die_at_any_two_moments() -> None:
    undisturbed = lived(SMALL)
    assert helpers_of(undisturbed, 0)
    waits = [worker.process.waits for worker in undisturbed.workers.values()]
    failed = {}
    for wait in range(40, waits[0] + 1, 3):
        other = 1 + wait * 7 % waits[1]
        if found := failings(replace(SMALL, dies_at={0: wait, 1: other})):
            failed[wait, other] = found
    assert failed == {}


def test_a_helper_that_stood_still_drops_what_was_taken_from_it() -> None:
    """Its portion is large enough to be seen working on it, if it did."""
    worker, call = first_call(STRAGGLER, "/checkpoints/00000/portions/")
    weather = Weather(latency=0.1, slow_seconds=2.5 * STRAGGLER.pace.lease_seconds)
    frozen = replace(STRAGGLER, weather=weather, strikes={(worker, call): "frozen"})
    universe = lived(frozen)
    session = universe.ledger.sessions.of(worker)
    assert session is not None
    assert session.buckets.wasted > 0
    takes = universe.ledger.portions.claims(0).takes.values()
    assert max(takes) > 1


def first_call(night: Night, what: str) -> tuple[str, int]:
    """Who makes the first write of such an object, and the how many-th of its calls that is."""
    found: list[tuple[str, int]] = []
    counted: dict[str, int] = {}

    def look(_now: float, process: str, verb: str, key: str, _outcome: str) -> None:
        number = counted.get(process, 0)
        counted[process] = number + 1
        if verb == "create" and what in key:
            found.append((process, number))

    assert failings(night, look) == []
    return found[0]


def test_a_row_that_kills_its_helpers_engine_is_found_and_its_evidence_kept() -> None:
    rows = list(STRAGGLER.rows[0][:80])
    rows[75] = Row(f"zeal, at the end of the line {DEADLY}", EXACT)
    pace = replace(STRAGGLER.pace, own_process=True)
    universe = lived(replace(STRAGGLER, rows={**STRAGGLER.rows, 0: tuple(rows)}, pace=pace))
    manifest = universe.ledger.manifest_of_part(universe.ledger.part(0) or b"")
    assert manifest is not None
    assert [entry["row"] for entry in manifest["quarantined"]] == [75]
    owner = manifest["attempts"][-1]["worker_id"]
    witnesses = [
        key
        for key in universe.bucket.memory.list(layout.portion_checkpoints_prefix(RUN, 0))
        if JsonFormat().decode_checkpoint(universe.bucket.memory.get(key) or b"").strikes
    ]
    assert witnesses, f"the row should have been with a helper, not with {owner}"


Change = Callable[[dict[str, Any]], object]


def lose_helper(manifest: dict[str, Any]) -> None:
    manifest["attempts"] = [a for a in manifest["attempts"] if a.get("portion") != FIRST]


def helper_twice(manifest: dict[str, Any]) -> None:
    helper = next(a for a in manifest["attempts"] if a.get("portion") == FIRST)
    manifest["attempts"].insert(0, helper)


def another(**what: object) -> Change:
    def change(manifest: dict[str, Any]) -> None:
        next(a for a in manifest["attempts"] if a.get("portion") == FIRST).update(what)

    return change


FIRST = {"number": 1, "take": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_helper, "rows, 240 are published"),
        (helper_twice, "its attempts are not in order, or one is there twice"),
        (another(portion={"number": 1, "take": 7}), "000001-000001/000007.json is missing"),
        (another(worker_id="worker-9"), "worker 'worker-9' has no session"),
        (another(started_at="then"), "epoch 1, portion 1, take 1: its lease says"),
        (another(end="published"), "the last publishes, and it alone"),
    ],
    ids=["lost", "twice", "of no take", "of nobody", "at another time", "publishes"],
)
def test_verify_knows_what_helpers_are_charged_with(
    shared: Universe, change: Change, said: str
) -> None:
    key = part_key(RUN, 0)
    body = shared.bucket.memory.get(key) or b""
    part = json.loads(body)
    manifest = json.loads(part["manifest"])
    change(manifest)
    shared.bucket.memory.put(key, json.dumps(part | {"manifest": json.dumps(manifest)}).encode())
    found = list(problems(shared.ledger, shared.shards, shared.source))
    shared.bucket.memory.put(key, body)
    assert any(said in problem for problem in found), found
    assert list(problems(shared.ledger, shared.shards, shared.source)) == []


@pytest.fixture(scope="module")
def shared() -> Universe:
    return lived(STRAGGLER)
