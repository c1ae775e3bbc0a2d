"""Lives nights with one mutant in the library: `python -m tests.mutation.plant NAME 0-99,200-299`.

The mutant is made when its module is imported: the checkout is never written to, so that nothing
has to be cleaned up after a kill, and no copy can differ from what is tested. A process for each,
because modules that were imported before would keep the sound code.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType

from tests.mutation.catalogue import MUTANTS
from tests.mutation.mutant import ROOT, Mutant, Needs, World

_NIGHTS_BETWEEN_COLLECTIONS = 50
SOUND = "none"
"""The name of the library as it is."""


class _MutantLoader(InspectLoader):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def get_source(self, fullname: str) -> str:
        return self._mutant.source()

    def get_code(self, fullname: str) -> CodeType:
        path = str(ROOT / self._mutant.file)
        code: CodeType = compile(self._mutant.source(), path, "exec", dont_inherit=True)
        return code


class _MutantFinder(MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        sound = PathFinder.find_spec(fullname, path, target)
        assert sound is not None, f"no module {fullname}"
        assert sound.origin == str(ROOT / self._mutant.file), f"{sound.origin} is another checkout"
        return importlib.util.spec_from_loader(fullname, _MutantLoader(self._mutant))


def plant(mutant: Mutant) -> None:
    """From now on, this process imports the mutant. Raises `Rotten`."""
    mutant.source()
    assert mutant.module not in sys.modules, f"{mutant.module} was imported too early"
    sys.meta_path.insert(0, _MutantFinder(mutant))


def seeds_of(text: str) -> Iterator[int]:
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        yield from range(int(first), int(last or first) + 1)


def first_failing(seeds: Iterator[int], needs: Needs, world: World) -> dict[str, object]:
    """The first night that fails, how many it took, and the first thing wrong with it."""
    # Only here: the mutant has to be planted before anything imports the library.
    from tests.simulation.budgets import budget_failings
    from tests.simulation.campaign import be_quiet, failings
    from tests.simulation.night import Night, night

    def possible(tonight: Night) -> bool:
        fails = not tonight.weather.answers
        return {
            "nothing": True,
            "a failing store": fails,
            "retries": fails and tonight.pace.retries > 0,
            "poison": tonight.poison > 0,
            "strikes unsaved": fails and tonight.poison > 0,
        }[needs]

    be_quiet()
    # A night leaves circles behind; they are picked up once in a while instead of all the time.
    gc.disable()
    nights = 0
    for seed in seeds:
        nights += 1
        if not possible(night(seed)):
            continue
        if nights % _NIGHTS_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        if found := budget_failings(seed) if world == "budgets" else failings(night(seed)):
            return {"seed": seed, "nights": nights, "sentence": _first_sentence(found)}
    return {"seed": None, "nights": nights, "sentence": ""}


def _first_sentence(found: Sequence[str]) -> str:
    """An invariant's own words, or what a traceback ends with."""
    if not found[0].startswith("Traceback"):
        return found[0]
    return next(line for line in reversed(found[0].splitlines()) if line[:1].strip())


def main() -> None:
    name, seeds = sys.argv[1:]
    needs: Needs = "nothing"
    world: World = "nights"
    if name != SOUND:
        plant(MUTANTS[name])
        needs, world = MUTANTS[name].needs, MUTANTS[name].world
    sys.stdout.write(json.dumps(first_failing(seeds_of(seeds), needs, world)) + "\n")


if __name__ == "__main__":
    main()
