"""Which night found which mutant: kept so that tests need not search, and for people to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path

from tests.mutation.catalogue import MUTANTS
from tests.mutation.hunt import Hunt
from tests.mutation.mutant import ROOT

_SEEDS = Path(__file__).with_name("found.json")
_PAGE = ROOT / "docs" / "mutants.md"
_HEAD = """# Bugs that the simulator finds

Written by `make mutants` on {today}. Each line is a bug planted in the library, alone; then nights
were lived from seed 0 on until one broke an invariant. The nights that failed pass without the bug.
"Nights" counts up to the failing one, those too that were skipped because the changed code cannot
run in them. A bug that no night finds is something that [the simulator](../tests/simulation) does
not prove.

| mutant | what it breaks | found by | nights |
|---|---|---|---|
"""


def recorded() -> dict[str, Hunt]:
    """The last search that found each mutant."""
    if not _SEEDS.exists():
        return {}
    return {name: Hunt(**fields) for name, fields in json.loads(_SEEDS.read_text()).items()}


def save_seeds(hunts: Mapping[str, Hunt]) -> None:
    known = {name: asdict(hunts[name]) for name in MUTANTS if name in hunts}
    _SEEDS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def save_page(hunts: Mapping[str, Hunt], today: date) -> None:
    lines = [
        f"| {name} | {mutant.breaks} | seed {h.seed}: {_cell(h.sentence)} | {h.nights} |\n"
        for name, mutant in MUTANTS.items()
        if (h := hunts.get(name)) is not None
    ]
    _PAGE.write_text(_HEAD.format(today=today) + "".join(lines))


def _cell(sentence: str) -> str:
    short = sentence if len(sentence) <= 120 else sentence[:117] + "..."
    return f"`{short.replace('|', '/').strip()}`"
