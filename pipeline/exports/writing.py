"""The tables of a finished run, put beside its manifest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache

from pipeline.accounts import ReadAccounts
from pipeline.core import layout
from pipeline.core.errors import SpotmillError, in_a_line
from pipeline.documents import MISSHAPEN, Json, in_words
from pipeline.exports.cost_rows import CostRow, cost_rows
from pipeline.exports.costs import encode_costs
from pipeline.exports.focus import encode_focus
from pipeline.ledger import Ledger

log = logging.getLogger("spotmill")


def write_exports(ledger: Ledger, accounts: ReadAccounts) -> None:
    """Write `costs.parquet` and `focus.parquet` of a finished run where they are missing.

    They follow from what changes no more, so whoever writes them writes the same. The run is
    complete with or without them: what keeps one from being written is logged, and never raised.
    """

    @cache
    def closed() -> tuple[str, Json]:
        job, run = ledger.job(), ledger.run_manifest()
        if job is None or run is None:
            raise LookupError("the run is not finished")
        return job["job"]["name"], run

    def rows() -> Iterator[CostRow]:
        job, run = closed()
        return cost_rows(job, run, accounts().manifests)

    try:
        ledger.export(layout.costs_key(ledger.run_id), lambda: encode_costs(rows()))
        ledger.export(layout.focus_key(ledger.run_id), lambda: encode_focus(rows()))
    except SpotmillError as problem:
        _told(in_a_line(problem))
    except MISSHAPEN as problem:
        _told(in_words(problem))


def _told(why: str) -> None:
    log.warning(
        "the run is complete, but its cost tables are not all written; why: %s; what to do: "
        "`spotmill run` on the same run writes those that are missing",
        why,
    )
