"""What `spotmill cost` shows to people: a run's cost as a few tables."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rich.measure import Measurement
from rich.table import Table

from pipeline.showing import output, show

Json = dict[str, Any]
_UNBOUNDED = 10_000
MOST_ROWS = 200
"""As many as a person may look through, and Rich lays out in a fraction of a second."""
_BUCKETS = ("boot", "load", "useful", "wasted", "idle", "drain")
_UNCERTAIN = {
    "uncertain": "beyond it, uncertain",
    "uncertain_until_closed": "  by wall clocks, at most",
}
_PREEMPTION = ("wasted_work", "unpublished", "drain", "replacement_boot", "replacement_load")


def show_cost(document: Json, as_json: bool) -> None:
    """On stdout: tables, rounded, or the whole document as JSON with every digit."""
    if as_json:
        show(document, as_json, title="")
        return
    tables = [_whole(document), _shared_out(document)]
    if document["earlier"]["runs"]:
        tables.append(_earlier(document["earlier"]))
    if document["hosted"] is not None:
        tables.append(_hosted(document["hosted"]))
    for table in tables:
        # As wide as its figures: on a narrow terminal a line goes on below, and no digit is cut.
        unbounded = output.options.update(width=_UNBOUNDED)
        table.width = Measurement.get(output, unbounded, table).maximum
        output.print(table)


def _whole(document: Json) -> Table:
    so_far = "" if document["complete"] else ", so far"
    table = Table(
        title=f"cost of {document['run_id']} in {document['currency']}{so_far}",
        show_header=False,
        title_justify="left",
    )
    on_demand, preemption = document["on_demand"], document["preemption"]
    table.add_row("total", _usd(document["total"]))
    table.add_row("  charged to shards", _usd(document["allocated"]))
    table.add_row("  charged to none", _usd(document["unallocated"]))
    for key, words in _UNCERTAIN.items():
        # Runs of earlier versions do not tell.
        if key in document and (document[key] is None or Decimal(document[key])):
            table.add_row(words, _usd(document[key]))
    if (after := document["after_closing"])["workers"]:
        spent = f"{_usd(after['cost'])} ({', '.join(after['workers'])})"
        table.add_row("after the closing, in no book", spent)
    table.add_row("useful", _usd(document["useful"]))
    table.add_row("wasted", _usd(document["wasted"]))
    table.add_row("overhead", _usd(document["overhead"]))
    table.add_row("tokens in, out", "{input:,}, {output:,}".format(**document["tokens"]))
    table.add_row("per 1k output tokens", _usd(document["per_1k_output_tokens"]))
    table.add_row("per 1M tokens, in and out", _usd(document["per_1m_tokens"]))
    table.add_row("on demand", _usd(on_demand["equivalent"]))
    table.add_row("saved", f"{_usd(on_demand['savings'])} ({_percent(on_demand['percent'])})")
    table.add_row("preempted workers", str(preemption["workers"]))
    table.add_row(
        "price of preemption", f"{_usd(preemption['total'])} ({_percent(preemption['percent'])})"
    )
    if preemption["workers"]:
        for part in _PREEMPTION:
            table.add_row(f"  {part.replace('_', ' ')}", _usd(preemption[part]))
    return table


def _shared_out(document: Json) -> Table:
    by = document["by"]
    table = _headed(
        f"by {by}", by, *(f"{bucket} s" for bucket in _BUCKETS), "output tokens",
        "cost", "unallocated", "per 1k",
    )  # fmt: skip
    rows = document["rows"]
    shown = rows if len(rows) <= MOST_ROWS else [*rows[: MOST_ROWS - 1], rows[-1]]
    if len(shown) < len(rows):
        # The last is what no shard is charged with, or as good as any other.
        table.caption = f"{len(rows) - len(shown):,} more before the last; --json has all of them"
        table.caption_justify = "left"
    for row in shown:
        cost = row["cost"]
        table.add_row(
            _name(row[by]),
            *(f"{row['seconds'][bucket]:,.1f}" for bucket in _BUCKETS),
            f"{row['tokens']['output']:,}",
            _usd(cost["total"]),
            _usd(cost["unallocated"]),
            _usd(cost["per_1k_output_tokens"]),
        )
    return table


def _earlier(earlier: Json) -> Table:
    change = earlier["change_percent"]
    title = f"earlier runs; per 1k output tokens now {_percent(change, signed=True)} to the usual"
    table = _headed(title, "run", "output tokens", "cost", "per 1k", "now", "preemption", "saved")
    for run in earlier["runs"]:
        table.add_row(
            run["run_id"],
            f"{run['output_tokens']:,}",
            _usd(run["total"]),
            _usd(run["per_1k_output_tokens"]),
            _percent(run["change_percent"]["per_1k_output_tokens"], signed=True),
            _percent(run["preemption_percent"]),
            _percent(run["savings_percent"]),
        )
    return table


def _hosted(hosted: Json) -> Table:
    table = _headed(
        f"hosted APIs, by {hosted['source']}", "model", "price", "cost", "per 1k", "times"
    )
    table.caption, table.caption_justify = hosted["note"], "left"
    for model in hosted["models"]:
        table.add_row(
            model["model"],
            model["price"],
            _usd(model["total"]),
            _usd(model["per_1k_output_tokens"]),
            "unknown" if model["times_ours"] is None else f"{model['times_ours']} x ours",
        )
    return table


def _headed(title: str, first: str, *others: str) -> Table:
    table = Table(first, title=title, title_justify="left")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _name(key: Any) -> str:
    if key is None:
        return "unallocated"
    if isinstance(key, Mapping):
        return ", ".join(f"{k} {'-' if v is None else v}" for k, v in key.items()) or "no tags"
    return str(key)


def _usd(amount: str | None) -> str:
    return "unknown" if amount is None else f"{Decimal(amount):z,.6f}"


def _percent(amount: str | None, signed: bool = False) -> str:
    if amount is None:
        return "unknown"
    return f"{Decimal(amount):+}%" if signed else f"{amount}%"
