"""What `spotmill cost` says of random nights, all through them: the bill, however it is shared."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import get_args

from pipeline.core.cost_lines import RunBooks
from pipeline.core.cost_report import By, cost_report
from pipeline.core.money import sum_of
from pipeline.run import books_of
from tests.simulation.fakes import VirtualClock
from tests.simulation.night import night
from tests.simulation.universe import PROVENANCE, Universe

SEEDS = range(1, 61)
EVERY_SECONDS = 7.0
LOOKS = 40


def books_now(universe: Universe) -> RunBooks:
    clock = VirtualClock()
    return books_of(universe.ledger, PROVENANCE, lambda: universe.shards, "earlier", clock)


def differences(universe: Universe, complete: bool) -> Iterator[str]:
    """Where the cost of the run as it is now is not what its workers say that they cost."""
    books = books_now(universe)
    if books.complete != complete:
        yield f"complete: {books.complete}"
    bills = [session.bill for session in universe.ledger.sessions.all().values()]
    beaten = sum_of(bill.usd for bill in bills)
    for by in get_args(By):
        report = cost_report(books, by)
        total = Decimal(report["total"])
        rows = sum(Decimal(row["cost"]["total"]) for row in report["rows"])
        if not rows == total == Decimal(report["allocated"]) + Decimal(report["unallocated"]):
            yield f"by {by}: the rows sum to {rows}, the run to {total}"
        if min(value for row in report["rows"] for value in row["seconds"].values()) < 0:
            yield f"by {by}: negative seconds"
        # A worker whose checkpoints are newer than its beat lived longer than it says.
        if beaten is None or (total < beaten and not complete):
            yield f"by {by}: {total}, and the workers say {beaten}"
    preemption = report["preemption"]
    if not 0 <= Decimal(preemption["total"]) <= total:
        yield f"preemption cost {preemption['total']} of {total}"
    if preemption["workers"] < preemption["replacements"]:
        yield f"{preemption['replacements']} for {preemption['workers']} that went"


def test_the_cost_of_a_night_adds_up_at_any_moment_of_it() -> None:
    failed: dict[object, list[str]] = {}
    looked, preempted = 0, 0
    for seed in SEEDS:
        universe = Universe(night(seed))

        def look(universe: Universe = universe, seed: int = seed) -> None:
            nonlocal looked
            if universe.ledger.run_manifest() is None and universe.ledger.sessions.worker_ids():
                looked += 1
                if found := list(differences(universe, complete=False)):
                    failed[seed, universe.scheduler.now] = found

        for number in range(LOOKS):
            universe.scheduler.at(number * EVERY_SECONDS, look)
        try:
            universe.run()
            if found := list(differences(universe, complete=True)):
                failed[seed] = found
            preempted += cost_report(books_now(universe))["preemption"]["workers"]
        finally:
            universe.abandon()
    assert failed == {}
    assert looked > 10 * len(SEEDS), "hardly a look while nights lasted"
    assert preempted > len(SEEDS), "hardly anybody was taken away"
