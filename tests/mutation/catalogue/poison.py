"""Rows that kill engines."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

MUTANTS = (
    Mutant(
        "strikes-forgotten",
        "a successor blames rows anew, and has no evidence against those given up",
        "pipeline/held.py",
        "        self.strikes = list(self.before.strikes)\n",
        "        self.strikes = []\n",
        needs="poison",
    ),
    Mutant(
        "failed-save-forgets-strikes",
        "strikes of a save that failed are in no later one",
        "pipeline/saver.py",
        "            shard.unsaved_strikes = [*point.strikes, *shard.unsaved_strikes]\n",
        "",
        needs="strikes unsaved",
    ),
    Mutant(
        "one-strike-is-enough",
        "a row is given up after one death, which anything may have caused",
        "pipeline/core/poison.py",
        "ALONE_STRIKES = 2\n",
        "ALONE_STRIKES = 1\n",
        needs="poison",
    ),
    Mutant(
        "neighbours-not-seen",
        "a row counts as alone though rows of other shards ran beside it",
        "pipeline/core/poison.py",
        "        return len(self.rows) == 1 and self.beside == 0\n",
        "        return len(self.rows) == 1\n",
        needs="poison",
    ),
    Mutant(
        "first-suspect-is-guilty",
        "the first of several suspects is given up, whichever it was",
        "pipeline/core/poison.py",
        "for strike in strikes if strike.alone)\n    return",
        "for strike in strikes)\n    return",
        needs="poison",
    ),
    Mutant(
        "engine-never-isolated",
        "a row takes its worker along, again and again, and is never seen to",
        "pipeline/desk.py",
        "        self.distrusts_engine |= held.before.ended_silently\n",
        "        self.distrusts_engine = False\n",
    ),
)
