"""What a start takes, and for how long a worker may be busy with one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.session import EngineStart, Session
from pipeline.core.start_times import StartTimes

PRICE = NodePrice(Decimal("3.6"), "a book")
LOADING = Session(
    "w1", 1, "load", "began", "beat", Node(), PRICE, Buckets(boot=20_000_000, load=90_000_000)
)
WORKING = replace(LOADING, state="work", buckets=Buckets(boot=20_000_000, load=300_000_000))


def again(loads: int, start: EngineStart | None = None) -> Session:
    """At work in its last engine of so many."""
    whole = Buckets(boot=20_000_000, load=loads * 300_000_000, useful=1_000_000)
    return replace(WORKING, buckets=whole, start=start)


def test_a_start_is_one_load_however_many_engines_a_session_had() -> None:
    seen = StartTimes()
    assert (seen.seconds, seen.boot_seconds) == (0.0, 0.0)
    seen.see(LOADING, 10.0)
    assert (seen.seconds, seen.boot_seconds) == (0.0, 20.0), "nobody knows how long it takes"
    for loads in range(1, 12):
        seen.see(again(loads), 300.0 * loads)
    assert seen.seconds == 320.0


def test_who_looks_late_goes_by_the_newest_engine() -> None:
    seen = StartTimes()
    seen.see(again(11, EngineStart(30.0, 250.0, 10**9, "bucket", "node")), 10.0)
    assert seen.seconds == 300.0
    seen.see(replace(again(2), worker_id="w2"), 10.0)
    assert seen.seconds == 620.0, "who tells of no engine may have had one"


def test_a_worker_is_deaf_for_what_is_left_of_the_longest_start() -> None:
    seen = StartTimes()
    seen.see(replace(WORKING, worker_id="w0"), 0.0)
    seen.see(LOADING, 0.0)
    assert seen.deaf_seconds(LOADING, 110.0, 0.0) == 210.0
    assert seen.deaf_seconds(LOADING, 1_000.0, 0.0) == 0.0
    assert seen.deaf_seconds(WORKING, 320.0, 0.0) == 0.0


def test_a_worker_that_loads_another_engine_is_deaf_from_when_it_says_so() -> None:
    seen = StartTimes()
    seen.see(again(1), 1_000.0)
    loads = replace(again(1), state="load")
    for now, deaf in ((1_010.0, 320.0), (1_110.0, 220.0), (1_500.0, 0.0)):
        seen.see(loads, now)
        assert seen.deaf_seconds(loads, now, now) == deaf
    seen.see(again(2), 1_510.0)
    assert seen.deaf_seconds(again(2), 1_510.0, 1_510.0) == 0.0
    seen.see(loads, 2_000.0)
    assert seen.deaf_seconds(loads, 2_000.0, 2_000.0) == 320.0
