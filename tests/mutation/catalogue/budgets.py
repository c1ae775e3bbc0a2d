"""What is spent when nobody looks, and what it takes to stop."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

MUTANTS = (
    Mutant(
        "spending-not-projected",
        "a budget is compared with beats that are old, and what came after them is spent beyond it",
        "pipeline/core/budget.py",
        "        return self.billed_usd + seconds_usd(self.unbilled_seconds, self.usd_per_hour)\n",
        "        return self.billed_usd\n",
        world="budgets",
    ),
    Mutant(
        "drain-not-kept-back",
        "a run that stops at its budget pays for its workers' drains beyond it",
        "pipeline/core/budget.py",
        "    return spent_usd(meters) + _running_usd(meters, drain_seconds)\n",
        "    return spent_usd(meters)\n",
        world="budgets",
    ),
    Mutant(
        "unheard-not-counted",
        "workers that boot cost nothing until they are heard of",
        "pipeline/budget.py",
        "            coming = [seconds for seconds in waits if seconds < BOOT_SECONDS]\n",
        "            coming = [seconds for seconds in waits if seconds < 0]\n",
        world="budgets",
    ),
)
