"""A spot price that moves while workers live: every second costs what it cost when it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from pipeline.core.money import UNKNOWN_PRICE, Buckets, NodePrice, dollars
from pipeline.core.ports import Clock
from pipeline.core.session import Session
from pipeline.core.spans import charges
from pipeline.worker import WorkerReport
from tests.simulation.invariants import broken
from tests.simulation.memory_rows import Row
from tests.simulation.night import Event, Night
from tests.simulation.night import Pace as NightPace
from tests.simulation.sim_store import Weather
from tests.simulation.universe import Universe
from tests.simulation.watched import Killed, killed_at
from tests.simulation.world import EXACT, Pace, Rows, World

ROWS: Rows = {
    shard: [Row(f"shard {shard}, number {n}", EXACT) for n in range(24)] for shard in range(3)
}
PACE = Pace(window=4, chunk_rows=3, chunk_seconds=600.0, step_seconds=1.0)
MOVES = ((0.0, "1.00"), (40.0, "2.50"), (90.0, "0.75"), (120.0, "1.00"))


@dataclass(frozen=True, slots=True)
class Market:
    clock: Clock

    def price(self) -> NodePrice:
        """Of the latest move."""
        usd = [usd for at, usd in MOVES if at <= self.clock.now()][-1]
        return NodePrice(Decimal(usd), "a market", Decimal(4))


def moving_world() -> World:
    world = World(ROWS, PACE, price=NodePrice(Decimal("1.00"), "a market", Decimal(4)))
    world.quotes = Market(world.clock)
    return world


def paid(lived: float) -> Decimal:
    """What `lived` seconds from the beginning cost at the market's own prices."""
    ends = [at for at, _ in MOVES[1:]] + [float("inf")]
    spent = [
        dollars(round(max(0.0, min(lived, end) - at) * 1e6), Decimal(usd))
        for (at, usd), end in zip(MOVES, ends, strict=True)
    ]
    return sum((usd for usd in spent if usd is not None), Decimal(0))


def seconds_by_price(row: Mapping[str, Any]) -> dict[str, float]:
    return {str(price.usd_per_hour): spent.total / 1e6 for price, spent in charges(row)}


def test_each_second_costs_what_it_cost_when_it_was() -> None:
    world = moving_world()
    assert isinstance(world.work(), WorkerReport)
    manifest = world.finish()
    world.check_invariants(manifest)
    [worker] = manifest["workers"]
    assert set(seconds_by_price(worker)) == {"1.00", "2.50", "0.75"}
    lived = sum(worker["seconds"].values())
    # It hears of a move five seconds after it at the latest, and of its boot nobody asks.
    wrong_for = 5.0 + 1.5
    off = abs(Decimal(manifest["cost"]["total"]) - paid(lived))
    assert off < Decimal("1.75") * 3 * Decimal(wrong_for) / 3600
    dearest = [a for m in shard_manifests(world) for a in m["attempts"] if len(charges(a)) > 1]
    assert dearest, "no shard saw a price move"


def shard_manifests(world: World) -> list[dict[str, Any]]:
    return world.ledger.shard_manifests(list(ROWS))


@dataclass(frozen=True, slots=True)
class LateMarket:
    """Does not answer before `since`."""

    clock: Clock
    since: float

    def price(self) -> NodePrice:
        return KNOWN if self.clock.now() >= self.since else UNKNOWN_PRICE


KNOWN = NodePrice(Decimal("1.00"), "a market", Decimal(4))


def test_a_price_that_is_heard_of_during_the_load_is_that_of_the_whole_life() -> None:
    world = World(ROWS, replace(PACE, load_seconds=90.0), price=UNKNOWN_PRICE)
    world.quotes = LateMarket(world.clock, since=60.0)
    assert isinstance(world.work(), WorkerReport)
    manifest = world.finish()
    world.check_invariants(manifest)
    assert set(seconds_by_price(manifest["workers"][0])) == {"1.00"}


def test_one_that_is_heard_of_later_counts_from_then_on() -> None:
    world = World(ROWS, PACE, price=UNKNOWN_PRICE)
    world.quotes = LateMarket(world.clock, since=40.0)
    assert isinstance(world.work(), WorkerReport)
    manifest = world.finish()
    assert set(seconds_by_price(manifest["workers"][0])) == {"None", "1.00"}
    assert manifest["cost"]["total"] is None, "what was before nobody knows"


@pytest.mark.parametrize("call", range(20, 110, 7))
def test_books_balance_at_every_price_wherever_a_worker_dies(call: int) -> None:
    world = moving_world()
    assert isinstance(world.work(killed_at(call, applied=False)), Killed)
    world.resume()
    manifest = world.finish()
    world.check_invariants(manifest)
    attempts = [a for m in shard_manifests(world) for a in m["attempts"]]
    for worker, left in zip(manifest["workers"], manifest["unallocated"], strict=True):
        own = [a for a in attempts if a["worker_id"] == worker["worker_id"]]
        billed = {price: spent.total for price, spent in charges(worker)}
        for price, micros in billed.items():
            rows = (span for row in (*own, left) for span in charges(row))
            assert sum(spent.total for at, spent in rows if at == price) == micros


@pytest.mark.parametrize("call", [60, 80, 100])
def test_a_dead_worker_may_have_had_several_prices_that_no_beat_of_it_tells(call: int) -> None:
    """An old beat landed on its newer ones, after it had died: its checkpoints knew better."""
    world = moving_world()
    assert isinstance(world.work(killed_at(call, applied=False)), Killed)
    session = world.ledger.sessions.of("worker-1")
    assert session is not None and len(session.spans) > 1
    first = session.spans[0]
    old = Session(
        *(session.worker_id, 0, "load", session.started_at, session.started_at, session.node),
        price=first.price,
        buckets=Buckets(boot=session.buckets.boot),
        lease_seconds=session.lease_seconds,
    )
    world.ledger.sessions.beat(old)
    world.resume()
    manifest = world.finish()
    world.check_invariants(manifest)
    dead = manifest["workers"][0]
    assert len(seconds_by_price(dead)) > 1
    assert dead["state"] == "load"


SLOW_TO_LOAD = Night(
    seed=2,
    rows={0: tuple(Row(f"row {number}", EXACT) for number in range(9))},
    pace=NightPace(workers=1, load_seconds=150.0),
    weather=Weather(latency=0.25),
)


def loads_of(universe: Universe, worker_id: str) -> list[int]:
    """Seconds of loading, by price."""
    session = universe.ledger.sessions.of(worker_id)
    assert session is not None
    return [round(span.buckets.load / 1e6) for span in session.spans if span.buckets.load]


def test_each_stretch_of_a_load_costs_what_it_cost_then() -> None:
    """Prices are looked at beside the worker; the invariants hold its bill against the market."""
    universe = Universe(SLOW_TO_LOAD)
    universe.run()
    assert list(broken(universe)) == []
    loads = loads_of(universe, "worker-0")
    assert len(loads) > 2
    assert sum(loads) >= 150


def test_a_worker_killed_while_it_loads_has_told_of_the_prices_it_loaded_at() -> None:
    killed = replace(SLOW_TO_LOAD, events=(Event(140.0, "kill"),), calm_from=140.0, kind="kills")
    universe = Universe(killed)
    universe.run()
    assert list(broken(universe)) == []
    assert len(loads_of(universe, "worker-0")) > 2
