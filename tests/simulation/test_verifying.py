"""Verify as an adversary would have it: whatever is wrong with a run is found and told where."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from pipeline.core import layout
from pipeline.core.cost_report import cost_report
from pipeline.core.errors import BooksUnbalanced, InputChanged, InputInvalid, Interrupted
from pipeline.core.manifest import charged_usd
from pipeline.core.money import decimal_text, sum_of
from pipeline.core.outlived import Outlived
from pipeline.core.shards import Shard
from pipeline.core.spans import charges
from pipeline.run import books_of
from pipeline.stores.memory import MemoryStore
from pipeline.verify import problems, remarks
from tests.simulation.fakes import NoticeAt
from tests.simulation.memory_rows import MemoryShard, MemorySource
from tests.simulation.tampering import (
    ENDED,
    JOB,
    LEASE,
    PROJECTION,
    RUN_MANIFEST,
    SESSION,
    TAMPERINGS,
    Document,
    Tampering,
    edit,
    footer,
    put,
    remove,
)
from tests.simulation.watched import Killed, killed_at
from tests.simulation.world import EXACT, RESTARTS, RUN, World, small_workload


def copied(world: World) -> World:
    memory = MemoryStore()
    for key in world.memory.list(""):
        memory.put(key, world.memory.get(key) or b"")
    return World(world.rows, memory=memory)


@pytest.fixture(scope="module")
def proved() -> World:
    """A finished run of two workers, the first drained in mid-shard; two attempts at shard 0."""
    world = World(small_workload(EXACT, RESTARTS))
    assert isinstance(world.work(notice=NoticeAt(11)), Interrupted)
    world.resume()
    world.finish()
    [first, second] = (world.ledger.sessions.of(name) for name in ("worker-1", "worker-2"))
    assert first is not None and second is not None
    manifest = world.ledger.projected_manifest(0)
    assert manifest is not None and len(manifest["attempts"]) == 2
    assert manifest["attempts"][0]["rows"] > 0
    return world


def test_nothing_is_wrong_with_a_run_that_nobody_touched(proved: World) -> None:
    assert proved.problems() == []


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.name)
def test_tampering_is_found(proved: World, tampering: Tampering) -> None:
    world = copied(proved)
    tampering.do(world)
    found = world.problems()
    assert any(tampering.found in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


def test_every_single_number_of_a_footer_and_of_the_runs_manifest_is_proved(proved: World) -> None:
    """Numbers and money that are altered one at a time, the projection with them."""
    for key in (RUN_MANIFEST, layout.shard_manifest_key(RUN, 0)):
        body = proved.memory.get(key)
        assert body is not None
        unnoticed = []
        for path, value in _leaves(json.loads(body)):
            world = copied(proved)
            change = put(*path, _other(value))
            if key != RUN_MANIFEST:
                footer(change)(world)
            else:
                edit(key, change)(world)
            if not world.problems():
                unnoticed.append(".".join(map(str, path)))
        assert sorted(unnoticed) == sorted(name for name in unnoticed if _told_by_nobody_else(name))


def test_whatever_stands_in_place_of_a_value_nothing_is_a_traceback(proved: World) -> None:
    odd: tuple[object, ...] = (None, -1, 1e999, "x", "Infinity", [], {}, [[]], True)
    keys = [RUN_MANIFEST, SESSION, JOB, LEASE, PROJECTION]
    for key in keys:
        body = proved.memory.get(key)
        assert body is not None
        for path, value in _leaves(json.loads(body)):
            # Of a section itself too, and of what lies in it.
            for place in {path, path[:1]}:
                for other in odd:
                    world = copied(proved)
                    change = put(*place, other)
                    (footer(change) if key == PROJECTION else edit(key, change))(world)
                    found = [*world.problems(), *remarks(world.ledger)]
                    assert all("\n" not in problem for problem in found), (key, path, value)


def _told_by_nobody_else(path: str) -> bool:
    """What only the document itself says: times, tags, how an attempt that was lost says that it
    ended, which beat a bill is of, what a worker that ended had lived when it wrote an attempt
    down, and, where two attempts may both have answered a row, whether more of them did."""
    last = path.rsplit(".", 1)[-1]
    return (
        ".lived." in path
        or (
            last
            in ("started_at", "finished_at", "ended_at", "end", "rows", "input", "cached_input")
            and (path.startswith("attempts.") or "." not in path)
        )
        or path.startswith("tags.")
        or last == "beat"
    )


def _leaves(
    value: object, path: tuple[str | int, ...] = ()
) -> list[tuple[tuple[str | int, ...], object]]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in _leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for i, entry in enumerate(value) for leaf in _leaves(entry, (*path, i))]
    return [(path, value)]


def _other(value: object) -> object:
    if isinstance(value, int | float):
        return value + 1
    return f"{value}1" if isinstance(value, str) else "1"


def test_a_run_in_the_middle_is_not_finished() -> None:
    world = World(small_workload(EXACT))
    assert isinstance(world.work(killed_at(20, applied=True)), Killed)
    found = world.problems()
    assert "the run is not finished: it has no manifest.json" in found
    assert any("not published" in problem for problem in found)
    world.resume()
    assert world.problems() == ["the run is not finished: it has no manifest.json"]


class ChangedSource(MemorySource):
    """Its files are not the planned ones any more."""

    def open(self, shard: Shard) -> MemoryShard:
        why = InputChanged if shard.id else InputInvalid
        raise why("not the planned file", where=shard.uri, hint="put it back")


def test_an_input_that_changed_is_a_problem_of_every_shard(proved: World) -> None:
    found = list(problems(proved.ledger, proved.shards, ChangedSource(proved.rows)))
    assert found == [
        f"shard {shard:05d}: not compared with its input: file-{shard}: not the planned file; "
        "what to do: put it back"
        for shard in (0, 1)
    ]


def test_a_shard_that_nobody_answered_is_missed(proved: World) -> None:
    more = (*proved.shards, replace(proved.shards[0], id=2))
    source = MemorySource({**proved.rows, 2: proved.rows[0]})
    assert "shard 00002: not published" in list(problems(proved.ledger, more, source))


def test_a_dead_worker_is_charged_with_no_more_than_its_own_words_prove() -> None:
    """Nothing else says when it ended, so what shards are charged with cannot say it as well."""
    world = World(small_workload(EXACT))
    assert isinstance(world.work(killed_at(20, applied=True)), Killed)
    world.resume()
    footer(_charged_more)(world)
    with pytest.raises(
        BooksUnbalanced, match=r"worker-1: shards are charged .* more than it lived"
    ):
        world.finish()
    assert world.ledger.run_manifest() is None


def _charged_more(manifest: Document) -> None:
    attempt = manifest["attempts"][0]
    attempt["seconds"]["useful"] += 0.5
    costs = [charged_usd(charges(one)) for one in manifest["attempts"]]
    manifest["cost"]["total"] = decimal_text(sum_of(costs))


# Workers that live on after the run was closed are no problem.


def closed_early(state: str) -> World:
    """A run that is closed while its worker's session still says `state`."""
    world = World(small_workload(EXACT))
    world.resume()
    remove(ENDED)(world)
    edit(SESSION, put("state", state))(world)
    world.finish()
    return world


def test_a_worker_that_still_lived_when_the_run_was_closed_may_live_on() -> None:
    world = closed_early("work")
    assert world.problems() == []
    for beat, seconds in ((101, 100.0), (102, 200.0)):
        edit(SESSION, put("beat", beat))(world)
        edit(SESSION, put("seconds", "idle", seconds))(world)
        assert world.problems() == []
    edit(SESSION, put("state", "ended"))(world)
    assert world.problems() == []
    edit(SESSION, put("seconds", "idle", 0.0))(world)
    assert world.problems() != [], "a worker's life does not become shorter"


def test_what_a_worker_spends_after_the_closing_is_told() -> None:
    world = closed_early("work")
    assert remarks(world.ledger) == []
    session = world.ledger.sessions.of("worker-1")
    assert session is not None
    edit(SESSION, put("beat", 101))(world)
    edit(SESSION, put("seconds", "idle", session.buckets.idle / 1e6 + 3600.0))(world)
    assert world.problems() == []
    assert remarks(world.ledger) == [
        "worker 'worker-1' tells of 3600.0 s (1.290000000000 USD) that came after the books were "
        "closed, and are in none"
    ]
    books = books_of(world.ledger, world.provenance, lambda: world.shards, "earlier", world.clock)
    report = cost_report(books)
    spent = {"workers": ["worker-1"], "seconds": 3600.0, "cost": "1.290000000000"}
    assert report["after_closing"] == spent
    closed = world.ledger.run_manifest()
    assert closed is not None
    assert Decimal(report["total"]) == Decimal(closed["cost"]["total"])


def test_a_worker_that_came_after_the_closing_spent_all_of_it_then(proved: World) -> None:
    world = copied(proved)
    assert remarks(world.ledger) == []
    world.started = 7
    world.work()
    late = world.ledger.sessions.of("worker-8")
    assert late is not None
    assert remarks(world.ledger) == [str(Outlived("worker-8", late.buckets.total, late.bill.usd))]


def test_the_cost_of_a_closed_run_is_what_it_was_whoever_thaws_after_it() -> None:
    """A machine that stood still beats on: its days, and whom it left a place to, were others."""
    world = World(small_workload(EXACT))
    assert isinstance(world.work(killed_at(20, applied=True)), Killed)
    world.clock.sleep(60.0)
    world.resume()
    world.finish()

    def told() -> tuple[object, ...]:
        args = (world.ledger, world.provenance, lambda: world.shards, "earlier", world.clock)
        report = cost_report(books_of(*args), "day")
        return report["preemption"], report["rows"]

    before = told()
    assert before[0]["replacements"] == 1  # type: ignore[index]
    edit(SESSION, put("beat", 101))(world)
    edit(SESSION, put("beat_at", "2026-12-24T00:00:00+00:00"))(world)
    assert told() == before


def test_a_beat_that_arrives_after_newer_ones_is_no_tampering() -> None:
    world = closed_early("work")
    edit(SESSION, put("beat", 0))(world)
    edit(SESSION, put("seconds", "idle", 0.0))(world)
    assert world.problems() == []
    assert remarks(world.ledger) == [], "nothing of it came after the closing"
    edit(SESSION, put("seconds", "idle", 900.0))(world)
    assert world.problems() != [], "an older beat tells of a shorter life"


def test_a_worker_that_comes_after_the_end_is_in_no_bill_of_it(proved: World) -> None:
    world = copied(proved)
    world.clock.sleep(10_000.0)
    world.started = 7
    world.work()
    assert len(world.ledger.sessions.all()) == 3
    assert world.problems() == []


def test_a_second_run_under_the_same_output_is_not_foreign(proved: World) -> None:
    world = copied(proved)
    world.memory.put("data/run=morning/part-00000.parquet", b"rows")
    world.memory.put(layout.job_key("morning"), b"{}")
    assert world.problems() == []
