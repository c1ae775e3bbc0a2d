"""A worker that goes at any moment loses nothing and doubles nothing: every store call is tried."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pipeline.core.errors import BooksUnbalanced, Interrupted
from pipeline.core.layout import part_key
from pipeline.core.money import UNKNOWN_PRICE, UNTOLD_PRICE
from pipeline.worker import WorkerReport
from tests.simulation.fakes import NoticeAt
from tests.simulation.memory_rows import Row
from tests.simulation.moments import failures_of
from tests.simulation.watched import Killed, asleep_at, killed_at
from tests.simulation.world import (
    BOOT_SECONDS,
    EXACT,
    RESTARTS,
    RUN,
    Rows,
    World,
    small_workload,
    tokens_in,
)


def test_an_undisturbed_run_is_proved() -> None:
    world = World(small_workload(EXACT, RESTARTS))
    report = world.work()
    assert isinstance(report, WorkerReport)
    assert (report.shards_published, report.rows) == (2, 11)
    manifest = world.finish()
    world.check_invariants(manifest)
    assert manifest["output"] == {
        "rows": 11,
        "rows_ok": 10,
        "rows_error": 1,
        "finish_reasons": manifest["output"]["finish_reasons"],
    }
    assert manifest["tokens"]["wasted"] == 0
    assert world.decoded() == tokens_in(world.answers())


@pytest.mark.parametrize("applied", [False, True])
def test_a_worker_killed_at_any_store_call_is_succeeded(applied: bool) -> None:
    rows = small_workload(EXACT, RESTARTS)
    whole = World(rows)
    whole.work()

    def kill(ordinal: int) -> None:
        world = World(rows)
        assert isinstance(world.work(killed_at(ordinal, applied=applied)), Killed)
        world.resume()
        world.check_invariants(world.finish())

    assert failures_of(whole.calls, kill) == {}


@pytest.mark.parametrize("applied", [False, True])
def test_two_workers_killed_one_after_the_other(applied: bool) -> None:
    rows = small_workload(EXACT, RESTARTS)
    whole = World(rows)
    whole.work()

    def kill_twice(ordinal: int) -> None:
        world = World(rows)
        assert isinstance(world.work(killed_at(ordinal, applied=applied)), Killed)
        # The same moment of its own life may be late or early in the run.
        world.work(killed_at(whole.calls - 1 - ordinal, applied=not applied))
        world.resume()
        world.check_invariants(world.finish())

    assert failures_of(whole.calls, kill_twice) == {}


def test_a_drain_at_any_moment_decodes_no_token_twice() -> None:
    rows = small_workload(EXACT)
    notice = NoticeAt()
    World(rows).work(notice=notice)

    def drain(ask: int) -> None:
        world = World(rows)
        assert isinstance(world.work(notice=NoticeAt(ask)), Interrupted)
        world.resume()
        manifest = world.finish()
        world.check_invariants(manifest)
        assert world.decoded() == tokens_in(world.answers())
        assert manifest["tokens"]["wasted"] == 0

    assert failures_of(notice.asked, drain) == {}


def test_drained_rows_that_cannot_continue_are_waste_on_the_books() -> None:
    rows = small_workload(RESTARTS)
    notice = NoticeAt()
    World(rows).work(notice=notice)

    def drain(ask: int) -> None:
        world = World(rows)
        assert isinstance(world.work(notice=NoticeAt(ask)), Interrupted)
        world.resume()
        manifest = world.finish()
        world.check_invariants(manifest)
        wasted = manifest["tokens"]["wasted"]
        assert world.decoded() == tokens_in(world.answers()) + wasted

    assert failures_of(notice.asked, drain) == {}


def test_shards_without_rows_or_without_answers_are_published_too() -> None:
    rows: Rows = {0: [], 1: [Row(""), Row("")], 2: [Row("a prompt", EXACT)]}
    world = World(rows)
    assert isinstance(world.work(), WorkerReport)
    manifest = world.finish()
    world.check_invariants(manifest)
    assert manifest["output"]["rows"] == 3
    assert manifest["output"]["rows_error"] == 2


def test_a_run_of_unknown_price_is_finished_and_its_cost_is_unknown() -> None:
    world = World(small_workload(EXACT), price=UNKNOWN_PRICE)
    world.work(killed_at(20, applied=True))
    world.resume()
    manifest = world.finish()
    assert manifest["cost"]["total"] is None
    assert manifest["cost"]["allocated"] is None
    assert world.problems() == []


@pytest.mark.parametrize("share", [Fraction(1), Fraction(1, 4)])
def test_a_run_that_is_closed_before_a_worker_told_its_price_is_proved_all_the_same(
    share: Fraction,
) -> None:
    world = World(small_workload(EXACT), node_share=share)
    closed: list[dict[str, Any]] = []

    def meanwhile() -> None:
        world.resume()
        closed.append(world.finish())

    # Its first call begins its session, its second tells the price.
    assert isinstance(world.work(asleep_at(1, meanwhile)), WorkerReport)
    [manifest] = closed
    late = next(w for w in manifest["workers"] if w["worker_id"] == "worker-1")
    assert late["price_source"] == UNTOLD_PRICE.source
    assert (late["cost"], sum(late["seconds"].values())) == ("0.000000000000", 0)
    uncertain = {key: late["uncertain"][key] for key in ("seconds", "cost")}
    assert uncertain == {"seconds": BOOT_SECONDS + world.pace.lease_seconds, "cost": None}
    assert Decimal(manifest["cost"]["total"]) > 0
    session = world.ledger.sessions.of("worker-1")
    assert session is not None
    assert session.over
    assert not session.untold
    assert world.problems() == []
    world.check_invariants(manifest)


def test_finishing_twice_is_finishing_once() -> None:
    world = World(small_workload(EXACT))
    world.work()
    assert world.finish() == world.finish()


def test_a_run_with_a_shard_left_over_is_not_finished() -> None:
    world = World(small_workload(EXACT))
    world.work(killed_at(20, applied=True))
    with pytest.raises(BooksUnbalanced, match="2 shards planned"):
        world.finish()


@pytest.mark.parametrize("shard", [0, 1])
def test_a_part_that_was_tampered_with_is_found(shard: int) -> None:
    world = World(small_workload(EXACT))
    world.work()
    world.finish()
    key = part_key(RUN, shard)
    body = world.memory.get(key)
    assert body is not None
    world.memory.put(key, body.replace(b'"row": 1', b'"row": 2'))
    assert any(f"shard {shard:05d}" in found for found in world.problems())
    world.memory.put(key, body)
    world.memory.put(key.replace("part-", "stray-"), body)
    assert any("foreign object" in found for found in world.problems())
