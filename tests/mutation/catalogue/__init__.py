"""Every bug that the simulator has to find."""

from __future__ import annotations

from tests.mutation.catalogue import books, budgets, fleet, ownership, poison, portions, saving
from tests.mutation.mutant import Mutant

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for topic in (ownership, saving, books, fleet, poison, portions, budgets)
    for mutant in topic.MUTANTS
}
