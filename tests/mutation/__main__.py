"""Plants every bug of the catalogue, one at a time, and shows that the simulator finds it.

`python -m tests.mutation` tries seeds from 0 on until a night fails; exit 1 when a mutant survives.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from tests.mutation.catalogue import MUTANTS
from tests.mutation.hunt import Hunt, hunt, hunt_all
from tests.mutation.plant import SOUND
from tests.mutation.record import recorded, save_page, save_seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=MUTANTS, default=[*MUTANTS])
    parser.add_argument("--nights", type=int, default=20_000, help="after which one has survived")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--record", action="store_true", help="write the seeds for `make test`, and docs/mutants.md"
    )
    asked = parser.parse_args()
    for name in asked.only:
        MUTANTS[name].source()
    console = Console(width=160)
    hunts = []
    for result in hunt_all(_everywhere(asked.only, asked.nights), asked.jobs):
        hunts.append(result)
        console.print(_in_words(result), markup=False, highlight=False)
    console.print(_table(hunts))
    sound = _baseline(hunts)
    console.print(_in_words(sound), markup=False, highlight=False)
    if asked.record:
        save_seeds({**recorded(), **{h.name: h for h in hunts if h.found}})
        save_page(recorded(), datetime.now(UTC).date())
    survivors = [h for h in hunts if not h.found]
    return 1 if survivors or sound.found or sound.trouble else 0


def _everywhere(names: Sequence[str], nights: int) -> list[tuple[str, str, int]]:
    return [(name, f"0-{nights - 1}", nights) for name in names]


def _baseline(hunts: Sequence[Hunt]) -> Hunt:
    """The same nights without any mutant: what was found has to be the mutants' doing."""
    seeds = sorted({h.seed for h in hunts if h.seed is not None})
    return hunt(SOUND, ",".join(map(str, seeds)) or "0", len(seeds))


def _in_words(result: Hunt) -> str:
    if result.trouble:
        return f"{result.name}: {result.trouble}"
    if not result.found:
        return f"{result.name}: no night of {result.nights} fails"
    return f"{result.name}: seed {result.seed} fails, after {result.nights} nights"


def _table(hunts: Sequence[Hunt]) -> Table:
    table = Table("mutant", "found by seed", "nights", "what was broken", "seconds")
    for h in hunts:
        seed = "SURVIVES" if h.seed is None else str(h.seed)
        table.add_row(h.name, seed, str(h.nights), h.trouble or h.sentence, f"{h.seconds:.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
