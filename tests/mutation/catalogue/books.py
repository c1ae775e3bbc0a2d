"""Seconds, tokens and dollars."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

MUTANTS = (
    Mutant(
        "saved-tokens-billed-twice",
        "a continued row's saved tokens count as decoded again",
        "pipeline/held.py",
        "self.decoded_before += max(0, len(completion.token_ids) - len(request.saved))",
        "self.decoded_before += len(completion.token_ids)",
    ),
    Mutant(
        "waste-not-priced",
        "what a dead worker decoded after its last checkpoint is on no shard's bill",
        "pipeline/ledger.py",
        "        return lost_since(attempt, account.decoded, useful)\n",
        "        return attempt\n",
    ),
    Mutant(
        "dead-called-slow",
        "a worker that died on a shard is called superseded, as if it had lived on",
        "pipeline/superseded.py",
        "    return 0 < seen < session.buckets.total\n",
        "    return True\n",
    ),
    Mutant(
        "silent-attempts-missing",
        "an attempt that saved nothing is in no manifest",
        "pipeline/ledger.py",
        "        made = tuple(a for a in attempts if a is not None)\n",
        "        made = progress.attempts\n",
    ),
    Mutant(
        "dropped-tokens-uncounted",
        "tokens of a dropped shard are in no book that is closed",
        "pipeline/feed.py",
        "            self.dropped[shard.shard.id] = account\n",
        "            decoded.clear()\n",
    ),
    Mutant(
        "dropped-seconds-still-useful",
        "seconds of a shard that somebody else published count as useful",
        "pipeline/feed.py",
        "        self._sheet.write_off(shard)\n",
        "",
    ),
    Mutant(
        "price-moves-for-the-worker-alone",
        "shards in hand are charged at the new price for what they had before it",
        "pipeline/timesheet.py",
        "        for shard in held:\n",
        "        for shard in ():\n",
    ),
    Mutant(
        "price-moves-unsettled",
        "seconds that wait to be shared out get the price that comes after them",
        "pipeline/feed.py",
        "        self.settle()\n        if not self._sheet.all_shared:\n            return False\n",
        "",
    ),
    Mutant(
        "seconds-twice",
        "waiting is billed again in the bucket that comes next",
        "pipeline/timesheet.py",
        "until + micros / MICROS_PER_SECOND, account",
        'until + (0 if bucket == "idle" else micros / MICROS_PER_SECOND), account',
    ),
    Mutant(
        "seconds-lost",
        "the seconds of a drain are in no bucket",
        "pipeline/beats.py",
        '        self.sheet.pass_to(self._clock.now(), "drain")\n',
        "",
    ),
    Mutant(
        "last-beat-not-sent",
        "an ended worker keeps its leases, and its bill stops early",
        "pipeline/beats.py",
        "        self._errands.send(lambda: self._ledger.sessions.end(session), done, failed)\n",
        "",
    ),
    Mutant(
        "dead-not-billed",
        "the run's bill leaves out workers that never said goodbye",
        "pipeline/accounts.py",
        "        return [session.bill for _, session in sorted(self.sessions.items())]\n",
        "        return [s.bill for _, s in sorted(self.sessions.items()) if s.over]\n",
    ),
    Mutant(
        "dead-billed-to-last-beat",
        "checkpoints prove that a worker lived longer than its last beat, and nobody looks",
        "pipeline/core/bills.py",
        "    if bill.state in ENDED:\n        return bill\n",
        "    if bill:\n        return bill\n",
    ),
    Mutant(
        "own-manifest-counts",
        "a supervisor that lost the race to finish shows another bill than the stored one",
        "pipeline/run.py",
        "    finished = ledger.run_manifest()\n",
        "    finished = manifest\n",
    ),
)
