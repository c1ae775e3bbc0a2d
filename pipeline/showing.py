"""What commands put on stdout: a table for people, or one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Json = dict[str, Any]
# Names, tags and messages are others' words: a `[/red]` in one is no end of anything.
output = Console(soft_wrap=True, markup=False, emoji=False)


def show(document: Json, as_json: bool, title: str, whole: Json | None = None) -> None:
    """`document` as a table, or as JSON, then with all that is in `whole`."""
    if as_json:
        print(json.dumps(document if whole is None else whole, indent=1))  # noqa: T201
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in _flat(document):
        table.add_row(key, value)
    output.print(table)


def _flat(document: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{above}{key}.")
        elif isinstance(value, list):
            rows += [(f"{above}{key}", _line(entry)) for entry in value] or [(f"{above}{key}", "-")]
        else:
            rows.append((f"{above}{key}", "unknown" if value is None else str(value)))
    return rows


def _line(entry: object) -> str:
    if isinstance(entry, Mapping):
        return ", ".join(f"{key} {value}" for key, value in _flat(entry))
    return str(entry)
