"""The campaign as tables, for people, and as one JSON document."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: headings, and rows of text."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def sheets(outcomes: Sequence[Outcome]) -> list[Sheet]:
    return [
        _totals(outcomes),
        _kills(outcomes),
        _blows(outcomes),
        _runs(outcomes),
        _books(outcomes),
    ]


def _totals(outcomes: Sequence[Outcome]) -> Sheet:
    rows = [outcome.rows for outcome in outcomes if outcome.rows]
    ratios = [o.worst_kill_intervals for o in outcomes if o.worst_kill_intervals is not None]
    figures = [
        ("processes killed with SIGKILL", str(sum(o.killed for o in outcomes))),
        ("runs", str(len(outcomes))),
        ("rows published", str(sum(r.published for r in rows))),
        ("rows lost", str(sum(r.lost for r in rows))),
        ("rows published twice", str(sum(r.twice for r in rows))),
        ("rows other than the undisturbed run's", str(sum(r.different for r in rows))),
        ("worst kill, in checkpoint intervals of decoding", f"{max(ratios, default=0):.2f}"),
        ("faults", str(sum(len(o.faults) for o in outcomes))),
    ]
    return Sheet("What became of it", ("figure", "value"), figures)


def _kills(outcomes: Iterable[Outcome]) -> Sheet:
    return Sheet(
        "SIGKILL, by victim and moment",
        ("victim: moment", "kills"),
        _counted(sum((outcome.kills for outcome in outcomes), Counter[str]())),
    )


def _blows(outcomes: Iterable[Outcome]) -> Sheet:
    return Sheet(
        "What else was done",
        ("blow", "times"),
        _counted(sum((outcome.blows for outcome in outcomes), Counter[str]())),
    )


def _counted(counts: Counter[str]) -> list[tuple[str, ...]]:
    return [(name, str(count)) for name, count in counts.most_common()]


def _runs(outcomes: Iterable[Outcome]) -> Sheet:
    headings = (
        *("run", "seconds", "killed", "shards claimed again", "rows", "lost", "twice"),
        *("different", "faults"),
    )
    rows: list[tuple[str, ...]] = []
    for o in outcomes:
        r = o.rows
        counts = (
            o.claimed_again,
            *((r.published, r.lost, r.twice, r.different) if r else [None] * 4),
        )
        shown = ("-" if count is None else str(count) for count in counts)
        faults = "; ".join(o.faults) or "none"
        rows.append((o.name, f"{o.seconds:.0f}", str(o.killed), *shown, faults))
    return Sheet("Runs", headings, rows)


def _books(outcomes: Iterable[Outcome]) -> Sheet:
    headings = (
        *("run", "decoded (engines' own count)", "published", "wasted (manifest)"),
        *("after the last record", "missing", "worst kill"),
    )
    return Sheet(
        "Tokens",
        headings,
        [
            (
                o.name,
                *(str(n) for n in (b.decoded, b.published, b.wasted)),
                str(b.unrecorded) if b.workers else "in the next column",
                str(b.missing),
                "-"
                if o.worst_kill_tokens is None
                else f"{o.worst_kill_tokens} ({o.worst_kill_intervals:.2f} intervals)",
            )
            for o in outcomes
            if (b := o.books)
        ],
    )


def show(outcomes: Sequence[Outcome]) -> None:
    # Files and pipes have no width, and the default cuts figures.
    console = Console(width=None if sys.stdout.isatty() else 160)
    for sheet in sheets(outcomes):
        table = Table(*sheet.headings, title=sheet.title, title_justify="left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)


def document(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [_document(outcome) for outcome in outcomes]


def _document(o: Outcome) -> dict[str, Any]:
    return {
        "run": o.name,
        "seconds": round(o.seconds, 1),
        "kills": dict(o.kills),
        "blows": dict(o.blows),
        "rows": None
        if o.rows is None
        else {
            "published": o.rows.published,
            "lost": o.rows.lost,
            "twice": o.rows.twice,
            "different": o.rows.different,
        },
        "tokens": None
        if o.books is None
        else {
            "decoded": o.books.decoded,
            "published": o.books.published,
            "wasted": o.books.wasted,
            "unrecorded": o.books.unrecorded,
            "missing": o.books.missing,
        },
        "claimed_again": o.claimed_again,
        "workers": []
        if o.books is None
        else [
            {
                "worker_id": w.worker_id,
                "state": w.state,
                "decoded": w.decoded,
                "beaten": w.beaten,
                "saved": w.saved,
                "recorded": w.recorded,
            }
            for w in o.books.workers
        ],
        "worst_kill_tokens": o.worst_kill_tokens,
        "interval_tokens": o.interval_tokens,
        "faults": o.faults,
        "notes": o.notes,
    }
