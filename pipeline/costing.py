"""What a run has cost, from its objects alone: shared out, and beside other runs and offers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline import wiring
from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core import layout
from pipeline.core.cost_history import closed_in_brief, compared, in_brief
from pipeline.core.cost_lines import RunBooks
from pipeline.core.cost_report import By, cost_report
from pipeline.core.manifest import Provenance
from pipeline.core.money import decimal_of
from pipeline.core.preemption import price_of_preemption, taken_away
from pipeline.documents import MISSHAPEN, in_words
from pipeline.exports.reading import read_costs
from pipeline.hosted_prices import Amount, hosted_costs
from pipeline.run import books_of

log = logging.getLogger("spotmill")

Json = dict[str, Any]
EARLIER_RUNS = 5


def cost(
    here: JobAtHand,
    by: By = "worker",
    tag: str | None = None,
    earlier: int = EARLIER_RUNS,
    hosted: Sequence[str] = (),
) -> Json:
    """What the run has cost so far, its rows `by` that; beside up to `earlier` complete runs of
    the same job, and what its tokens would have cost from `hosted` models, or the usual ones.

    Raises `RunMissing`, `JobInvalid` for a model that nobody has a price of, and `BooksUnbalanced`.
    """
    started_at = wiring.require_job(here)["created_at"]
    books = _books(here)
    report = cost_report(books, by, tag)
    before = _earlier(here, started_at, earlier)
    amount = Amount(
        input_tokens=report["tokens"]["input"],
        output_tokens=report["tokens"]["output"],
        rows=sum(manifest["output"]["rows_ok"] for manifest in books.manifests),
        usd=decimal_of(report["total"]),
    )
    return {
        **report,
        "earlier": compared(in_brief(report, started_at), before),
        "hosted": hosted_costs(hosted, amount, datetime.now(UTC)),
    }


def _books(here: JobAtHand) -> RunBooks:
    document = wiring.require_job(here)
    provenance = Provenance(here.run_id, document["fingerprint"], {}, here.job.all_tags())
    started_at = document["created_at"]
    clock = SystemClock()
    return books_of(here.ledger, provenance, lambda: wiring.planned(here).shards, started_at, clock)


def _earlier(here: JobAtHand, started_at: str, wanted: int) -> list[Json]:
    """The last complete runs of the job before this one in brief, the newest first."""
    found: list[Json] = []
    if not wanted:
        return found
    for run in here.runs.complete(before=started_at, but=here.run_id):
        try:
            preemption = _preemption_percent(here, run.manifest)
            found.append(closed_in_brief(run.manifest, run.job["created_at"], preemption))
        except MISSHAPEN as problem:
            # Written by another version, or torn: no reason to keep this run's cost to oneself.
            log.warning("run %s cannot be compared with: %s", run.run_id, in_words(problem))
        if len(found) == wanted:
            break
    return found


def _preemption_percent(here: JobAtHand, run: Json) -> str | None:
    """Of a complete run: its cost table is one object, and its shards' manifests are as many as its
    shards. None where the table is missing."""
    body = here.store.get(layout.costs_key(run["run_id"]))
    if body is None:
        return None
    charged = read_costs(body)
    states = {row["worker_id"]: row["state"] for row in run["workers"]}
    gone = taken_away(charged.left, states, over=True)
    total = decimal_of(run["cost"]["total"])
    price = price_of_preemption(gone, charged.lives, charged.lines, total)
    percent: str | None = price["percent"]
    return percent
