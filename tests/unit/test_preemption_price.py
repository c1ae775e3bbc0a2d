"""What preemption cost, by hand: a thousandth of a dollar a second."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from pipeline.core.cost_lines import RunBooks
from pipeline.core.cost_report import cost_report
from pipeline.core.money import Buckets
from pipeline.core.preemption import replacements
from pipeline.core.session import State
from tests.unit.cost_books import SECOND, UNPRICED, attempt, books, run_books, shard, worker
from tests.unit.strategies import bounded


def preemption(a_run: RunBooks) -> dict[str, Any]:
    found: dict[str, Any] = cost_report(a_run)["preemption"]
    return found


def seconds(**buckets: int) -> Buckets:
    return Buckets(**{name: count * SECOND for name, count in buckets.items()})


def killed_night(state: State = "work", complete: bool = True) -> RunBooks:
    """w1 dies with 4 s lost of a shard and 3 s that no shard knows of; w2 was there all along; w3
    comes in w1's place, w4 later and in nobody's."""
    w1 = worker("w1", "00:00:00", "01:00:00", seconds(boot=1, load=20, useful=17), state)
    w2 = worker("w2", "00:00:30", "03:00:00", seconds(boot=1, load=20, useful=30, drain=2))
    w3 = worker("w3", "01:05:00", "03:00:00", seconds(boot=5, load=40, useful=50, drain=2))
    w4 = worker("w4", "02:00:00", "03:00:00", seconds(boot=5, load=40))
    return books(
        [w1, w2, w3, w4],
        [
            shard(
                0,
                [
                    attempt(w1, 1, "lost", seconds(useful=10, wasted=4)),
                    attempt(w3, 2, "published", seconds(useful=50)),
                ],
            ),
            shard(1, [attempt(w2, 1, "published", seconds(useful=30))]),
        ],
        complete,
    )


def test_it_is_lost_work_and_what_its_replacement_took_to_begin() -> None:
    found = preemption(killed_night())
    assert (found["workers"], found["replacements"]) == (1, 1)
    assert {name: Decimal(found[name]) for name in list(found)[2:8]} == {
        "wasted_work": Decimal("0.004"),
        "unpublished": Decimal("0.003"),
        "drain": Decimal(0),
        "replacement_boot": Decimal("0.005"),
        "replacement_load": Decimal("0.040"),
        "total": Decimal("0.052"),
    }
    # Of 38 + 53 + 97 + 45 seconds.
    assert found["percent"] == "22.32"


def test_the_runs_own_manifest_says_who_left_early() -> None:
    left = {row["worker_id"]: row["left_early"] for row in killed_night().run["workers"]}
    assert left == {"w1": True, "w2": False, "w3": False, "w4": False}


def test_a_worker_that_failed_by_itself_was_not_preempted() -> None:
    assert Decimal(preemption(killed_night("failed"))["total"]) == 0


@pytest.mark.parametrize("end", ["lost", "superseded"])
def test_a_worker_that_was_taken_for_dead_and_ended_by_itself_was_not_preempted(end: str) -> None:
    """It was slow: what that cost is waste, and nobody's taking it away."""
    slow = worker("w1", "00:00:00", "01:00:00", seconds(load=9, useful=10, wasted=3))
    other = worker("w2", "00:30:00", "01:30:00", seconds(boot=2, load=10, useful=30))
    attempts = [
        attempt(slow, 1, end, seconds(useful=10)),
        attempt(other, 2, "published", seconds(useful=30)),
    ]
    found = preemption(books([slow, other], [shard(0, attempts)]))
    assert (found["workers"], found["replacements"]) == (0, 0)
    assert Decimal(found["total"]) == 0


def test_a_run_in_progress_counts_what_published_shards_prove() -> None:
    """What it did for shards that are not published may be of use still."""
    found = preemption(killed_night(complete=False))
    assert found["workers"] == 1
    assert Decimal(found["unpublished"]) == 0
    assert Decimal(found["wasted_work"]) == Decimal("0.004")


def test_a_worker_that_vanished_before_its_first_shard_is_known_when_the_run_is_over() -> None:
    gone = worker("w1", "00:00:00", "00:10:00", seconds(boot=1, load=9), "load")
    instead = worker("w2", "00:11:00", "03:00:00", seconds(boot=2, load=10, useful=30))
    done = [shard(0, [attempt(instead, 1, "published", seconds(useful=30))])]
    assert Decimal(preemption(books([gone, instead], done))["total"]) == Decimal("0.012")
    assert preemption(books([gone, instead], done, complete=False))["workers"] == 0


def test_a_drain_is_part_of_it_and_loses_nothing() -> None:
    told = worker("w1", "00:00:00", "01:00:00", seconds(load=9, useful=10, drain=3))
    instead = worker("w2", "01:00:00", "03:00:00", seconds(boot=2, load=10, useful=30, drain=1))
    attempts = [
        attempt(told, 1, "drained", seconds(useful=10)),
        attempt(instead, 2, "published", seconds(useful=30)),
    ]
    found = preemption(books([told, instead], [shard(0, attempts)]))
    assert Decimal(found["total"]) == Decimal("0.015")
    assert Decimal(found["drain"]) == Decimal("0.003")
    assert Decimal(found["wasted_work"]) == 0


def test_a_helper_that_hands_over_its_portion_goes_on() -> None:
    owner = worker("w1", "00:00:00", "03:00:00", seconds(useful=30))
    helper = worker("w2", "00:00:00", "03:00:00", seconds(useful=10, drain=1))
    attempts = [
        attempt(helper, 1, "drained", seconds(useful=10), portion=1, take=1),
        attempt(owner, 1, "published", seconds(useful=30)),
    ]
    assert preemption(books([owner, helper], [shard(0, attempts)]))["workers"] == 0


def test_nobody_takes_two_places() -> None:
    gone = [worker(f"w{n}", "00:00:00", "01:00:00", seconds(load=9), "load") for n in range(3)]
    new = [worker(f"x{n}", "01:00:01", "02:00:00", seconds(load=10)) for n in range(2)]
    attempts = [attempt(new[0], 1, "published", Buckets())]
    found = preemption(books([*gone, *new], [shard(0, attempts)]))
    assert (found["workers"], found["replacements"]) == (3, 2)
    assert Decimal(found["replacement_load"]) == Decimal("0.020")


@pytest.mark.parametrize(("priced", "expected"), [("w1", "unknown"), ("w4", "known")])
def test_it_is_unknown_where_a_price_of_it_is(priced: str, expected: str) -> None:
    night = killed_night()
    rows = [*night.run["workers"], *night.run["unallocated"]]
    rows += [a for manifest in night.manifests for a in manifest["attempts"]]
    for row in rows:
        if row["worker_id"] == priced:
            row.update(UNPRICED.to_json(), **({"cost": None} if "cost" in row else {}))
    found = preemption(night)
    assert (found["total"] is None) == (expected == "unknown")
    assert found["percent"] is None


@bounded
@given(run_books())
def test_it_is_never_more_than_the_run_cost(a_run: RunBooks) -> None:
    found = preemption(a_run)
    parts = list(found)[2:7]
    assert Decimal(found["total"]) == sum(Decimal(found[part]) for part in parts)
    grains = Decimal("0.000000000001") * 20
    assert Decimal(found["total"]) <= Decimal(a_run.run["cost"]["total"]) + grains
    assert found["replacements"] <= found["workers"]


def test_of_whom_only_an_attempt_tells_nobody_knows_whose_place_it_left() -> None:
    lives = {"w1": ("2026-11-20T00:00:00Z", "2026-11-20T01:00:00Z")}
    assert replacements({"ghost"}, lives) == frozenset()


def test_nobody_takes_a_place_of_its_own() -> None:
    """A worker that died before it told its price had a life of no time in earlier tables."""
    at = "2026-11-20T00:00:00Z"
    lives = {"w1": (at, at), "w2": ("2026-11-20T00:01:00Z", "2026-11-20T01:00:00Z")}
    assert replacements({"w1"}, lives) == {"w2"}
