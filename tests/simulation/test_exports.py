"""The cost tables of random nights: killed workers, zombies, outages and prices that move."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl

from pipeline.core.cost_report import cost_report
from pipeline.core.money import sum_of
from pipeline.core.preemption import price_of_preemption, taken_away
from pipeline.exports.cost_rows import CostRow, cost_rows
from pipeline.exports.costs import encode_costs
from pipeline.exports.focus import encode_focus
from pipeline.exports.reading import read_costs
from tests.simulation.night import night
from tests.simulation.test_cost import books_now
from tests.simulation.universe import Universe

SEEDS = range(1, 61)


TOKENS = ("input", "cached_input", "output", "copied", "wasted", "draft_proposed", "draft_accepted")


def rows_of(universe: Universe) -> tuple[list[CostRow], dict[str, Any]]:
    """What is exported of a night that is over, and its manifest."""
    ledger = universe.ledger
    run = ledger.run_manifest()
    assert run is not None
    manifests = ledger.shard_manifests([shard.id for shard in universe.shards])
    return list(cost_rows("nightly", run, manifests)), run


def preemption(universe: Universe) -> tuple[dict[str, Any], dict[str, Any]]:
    """What it cost by a run's table, as a later run reads it, and by the run's own report."""
    rows, run = rows_of(universe)
    charged = read_costs(encode_costs(rows))
    states = {row["worker_id"]: row["state"] for row in run["workers"]}
    gone = taken_away(charged.left, states, over=True)
    total = Decimal(run["cost"]["total"])
    told = price_of_preemption(gone, charged.lives, charged.lines, total)
    return told, cost_report(books_now(universe))["preemption"]


def test_the_tables_of_every_night_add_up_to_its_books() -> None:
    wrong: dict[int, tuple[object, ...]] = {}
    repriced = ended_badly = helped = copied = twice = 0
    for seed in SEEDS:
        universe = Universe(night(seed))
        try:
            universe.run()
            rows, run = rows_of(universe)
        finally:
            universe.abandon()
        costs, focus = pl.read_parquet(encode_costs(rows)), pl.read_parquet(encode_focus(rows))
        total = Decimal(run["cost"]["total"])
        sums = (
            sum_of(row.total for row in rows),
            costs["cost"].sum(),
            focus["EffectiveCost"].sum(),
        )
        least = min(focus["EffectiveCost"].min(), costs["seconds"].min())
        if set(sums) != {total} or least < Decimal("-1e-9"):
            wrong[seed] = (total, *sums, least)
        told = {name: costs[f"{name}_tokens"].sum() for name in TOKENS}
        counted = (told, costs["rows"].sum(), focus["x_Rows"].sum(), focus["x_InputTokens"].sum())
        tokens, answered = {name: run["tokens"][name] for name in TOKENS}, run["output"]["rows"]
        if counted != (tokens, answered, answered, tokens["input"]):
            wrong[seed] = (tokens, answered, *counted)
        if focus["ConsumedQuantity"].sum() != tokens["output"] + tokens["wasted"]:
            wrong[seed] = (tokens, focus["ConsumedQuantity"].sum())
        attempts = [(row.shard_id, row.epoch, row.portion, row.take) for row in rows if row.end]
        repriced += len(attempts) - len(set(attempts))
        ended_badly += sum(row.end == "lost" for row in rows)
        helped += sum(row.portion is not None for row in rows)
        copied += tokens["copied"]
        twice += tokens["wasted"]
    assert wrong == {}
    assert min(repriced, ended_badly, helped, copied, twice) > 10


def test_a_later_run_reads_the_price_of_preemption_that_the_run_told() -> None:
    differing: dict[int, tuple[object, object]] = {}
    replaced = untold = 0
    for seed in range(1, 121):
        universe = Universe(night(seed))
        try:
            universe.run()
            table, report = preemption(universe)
            sessions = universe.ledger.sessions.all().values()
        finally:
            universe.abandon()
        if table != report:
            differing[seed] = (table, report)
        replaced += report["replacements"]
        untold += sum(session.untold for session in sessions)
    assert differing == {}
    assert min(replaced, untold) > 10
