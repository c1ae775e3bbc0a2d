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
        "    return spent_usd(meters) + _running_usd(meters, drain_seconds) + deaf\n",
        "    return spent_usd(meters)\n",
        world="budgets",
    ),
    Mutant(
        "unheard-not-counted",
        "workers that boot cost nothing until they are heard of",
        "pipeline/budget.py",
        "            booted = [min(waited, starts.boot_seconds) for waited in waits if waited < "
        "BOOT_SECONDS]\n",
        "            booted = [waited for waited in waits if waited < 0]\n",
        world="budgets",
    ),
    Mutant(
        "allowance-not-read",
        "workers that no pool reaches, or whose supervisor is gone, spend on",
        "pipeline/allowance.py",
        "        self._leave = self._leave.after(found, asked_at, self._lease_seconds)\n",
        "        self._lease_seconds = self._lease_seconds\n",
        world="budgets",
    ),
    Mutant(
        "stop-only-through-the-pool",
        "a stop reaches the workers of pools that pass it on, and nobody else",
        "pipeline/supervisor.py",
        "            self._put_allowance(0.0, reason)\n",
        "            self._put_allowance(3_600.0, reason)\n",
        world="budgets",
    ),
)
