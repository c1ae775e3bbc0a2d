"""RESULTS.md: every figure with its target, and what was missed with its reason."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Failure, FamilyResult, Figure

REASONS = Path(__file__).with_name("reasons.toml")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When and where a table was measured, and how large it was asked to be."""

    date: str
    command: str
    machine: str
    size: str
    load_before: float
    load_after: float


def known_reasons(path: Path = REASONS) -> dict[str, str]:
    """Why figures are missed, by their key, as far as anybody found out."""
    with path.open("rb") as file:
        return {key: str(entry["why"]) for key, entry in tomllib.load(file).items()}


def markdown(
    at: Circumstances,
    results: Sequence[FamilyResult],
    titles: Mapping[str, str],
    reasons: Mapping[str, str],
) -> str:
    """The whole page."""
    lines = [
        "# Figures",
        "",
        f"Measured {at.date} with `{at.command}`, size {at.size}. Machine: {at.machine}. Load "
        f"average {at.load_before:.1f} before, {at.load_after:.1f} after.",
        "",
        "Each pair was measured in turn, in one run; values are medians (lowest to highest). "
        "Ratios compare; absolute figures belong to the machine and the hour. How and why: "
        "[018](../docs/decisions/018-benchmarks.md).",
        "",
        summary(results),
    ]
    for result in results:
        title = titles.get(result.family, result.family)
        lines += ["", f"## {title}", "", f"`--only {result.family}`, {result.seconds:.0f} s", ""]
        figures = [record for record in result.records if isinstance(record, Figure)]
        if figures:
            lines += ["| figure | value | asked | | what it says |", "|---|---|---|---|---|"]
            lines += [_row(figure, reasons) for figure in figures]
        for record in result.records:
            if isinstance(record, Failure):
                lines += ["", f"**Not measured:** `{record.key}`: {_one_line(record.reason)}"]
    return "\n".join(lines) + "\n"


def summary(results: Sequence[FamilyResult]) -> str:
    """How many targets were met, missed, and how much was not measured."""
    records = [record for result in results for record in result.records]
    asked = [r for r in records if isinstance(r, Figure) and r.target is not None]
    missed = sum(figure.missed for figure in asked)
    failed = sum(isinstance(record, Failure) for record in records)
    return (
        f"{len(asked) - missed} of {len(asked)} targets met, {missed} missed, "
        f"{failed} not measured."
    )


def value_in_words(figure: Figure) -> str:
    """As `0.976 (0.941 to 0.997)`, or `31.2 s`."""
    low, high = figure.low, figure.high
    if low is None or high is None or figure.samples == 1:
        return f"{_number(figure.value, figure)}{_unit(figure)}"
    between = f"({_number(low, figure)} to {_number(high, figure)})"
    return f"{_number(figure.value, figure)}{_unit(figure)} {between}"


def verdict(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return "MISSED" if figure.missed else "met"


def _row(figure: Figure, reasons: Mapping[str, str]) -> str:
    how = figure.how
    if figure.missed:
        how += f". **Missed:** {reasons.get(figure.key, 'no reason is known yet')}"
    asked = f"{figure.target}{_unit(figure)}" if figure.target else ""
    cells = (figure.name, value_in_words(figure), asked, verdict(figure), how)
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _unit(figure: Figure) -> str:
    return f" {figure.unit}" if figure.unit else ""


def _number(value: float, figure: Figure) -> str:
    if not figure.unit or abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) < 1_000 else f"{value:,.0f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
