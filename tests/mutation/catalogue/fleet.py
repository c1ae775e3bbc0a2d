"""Who keeps the fleet going, and when the run is over."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

MUTANTS = (
    Mutant(
        "nobody-replaced",
        "the supervisor starts a fleet, and never another worker",
        "pipeline/supervisor.py",
        "        self._unanswered += [self._name_worker() for _ in range(missing)]\n",
        "        self._unanswered += [self._name_worker() for _ in range(missing * "
        "(not self._asked_for))]\n",
    ),
    Mutant(
        "dead-count-as-live",
        "a worker that fell silent without a word is counted on for ever",
        "pipeline/core/fleet.py",
        "    return still_for < (lease_seconds if asked_for is not None else lease_seconds / 2)\n",
        "    return True\n",
    ),
    Mutant(
        "done-when-all-claimed",
        "the supervisor takes claimed shards for published ones",
        "pipeline/supervisor.py",
        "        published = self._ledger.published()\n        left",
        "        published = self._ledger.latest_epochs()\n        left",
    ),
    Mutant(
        "impatient-worker",
        "a worker ends when nothing is free, though a holder may be dead",
        "pipeline/claims.py",
        "            undecided |= free or not alive\n",
        "            undecided |= free\n",
    ),
)
