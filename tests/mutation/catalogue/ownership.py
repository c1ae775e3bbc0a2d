"""Who owns a shard, and whose copy of it counts."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

_AGE = """
from datetime import datetime

def _age(clock, timestamp):
    now = datetime.fromisoformat(clock.timestamp())
    return (now - datetime.fromisoformat(timestamp)).total_seconds()
"""

MUTANTS = (
    Mutant(
        "publish-overwrites",
        "a zombie's copy replaces the one that counts",
        "pipeline/ledger.py",
        "        return self._store.create(layout.part_key(self.run_id, shard_id), part)\n",
        "        self._store.put(layout.part_key(self.run_id, shard_id), part)\n"
        "        return True\n",
    ),
    Mutant(
        "claim-overwrites",
        "two workers hold one epoch, and the bill goes to the later",
        "pipeline/ledger.py",
        "        return self._store.create(key, dump(asdict(lease)))\n",
        "        self._store.put(key, dump(asdict(lease)))\n        return True\n",
    ),
    Mutant(
        "epoch-reused",
        "a dead worker's shard can never be claimed again",
        "pipeline/claims.py",
        "self._take(shard, epoch + 1)",
        "self._take(shard, epoch or 1)",
    ),
    Mutant(
        "lease-by-wall-clock",
        "two machines' clocks decide whether a worker is dead",
        "pipeline/holders.py",
        "            silent_for=self._watch.still_for(worker, now),\n",
        "            silent_for=_age(self._clock, session.beat_at) if session else 0.0,\n",
        _AGE,
    ),
    Mutant(
        "lease-by-age",
        "a shard is taken from a living worker because it takes long",
        "pipeline/holders.py",
        "            silent_for=self._watch.still_for(worker, now),\n",
        "            silent_for=_age(self._clock, holder.claimed_at),\n",
        _AGE,
    ),
    Mutant(
        "watch-starts-again",
        "a beat that stands still is new at every look, so nobody is ever dead",
        "pipeline/core/lease.py",
        "        if known is not None and known[0] == number:\n            return\n"
        "        if known is not None:\n",
        "        if known is not None and known[0] != number:\n",
    ),
    Mutant(
        "published-not-asked-again",
        "a shard is generated again that was published while the leases were read",
        "pipeline/claims.py",
        "if free and holder is not None and shard.id in self._ledger.published():",
        "if free and holder is not None and shard.id in published:",
    ),
    Mutant(
        "zombie-keeps-shard",
        "a worker goes on with a shard that has a newer owner",
        "pipeline/beats.py",
        "return claims.epoch > name.epoch\n",
        "return claims.epoch > name.epoch + 1_000\n",
    ),
    Mutant(
        "doubt-is-defeat",
        "a create whose answer was lost is taken for a lost race",
        "pipeline/stores/retry.py",
        "return in_doubt and same(self._inner.get(key), body)",
        "return False",
        needs="retries",
    ),
    Mutant(
        "doubt-is-victory",
        "a create whose answer was lost is taken for won, unread",
        "pipeline/stores/retry.py",
        "return in_doubt and same(self._inner.get(key), body)",
        "return in_doubt",
        needs="retries",
    ),
    Mutant(
        "publish-doubt-is-defeat",
        "a worker that published, and never heard so, writes its work off",
        "pipeline/saver.py",
        "return shard.publish_in_doubt and self._ledger.published_by(shard_id) == owner",
        "return False",
        needs="a failing store",
    ),
    Mutant(
        "lost-claim-not-adopted",
        "a claim whose answer was lost keeps its shard from everybody",
        "pipeline/claims.py",
        "if holder is not None and holder.worker_id == self._worker_id:",
        "if holder is not None and holder.worker_id == self._worker_id and not epoch:",
        needs="a failing store",
    ),
)
