"""What is saved of a shard, and what a successor makes of it."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

MUTANTS = (
    Mutant(
        "failed-save-forgets-rows",
        "finished rows of a save that failed are in no later one",
        "pipeline/saver.py",
        "            shard.unsaved = [*point.finished, *shard.unsaved]\n",
        "",
        needs="a failing store",
    ),
    Mutant(
        "save-forgets-newer-rows",
        "rows that finish while a save is on its way are in no later one",
        "pipeline/saver.py",
        "            shard.saving = None\n"
        "            self._save_seconds.append(self._clock.now() - sent_at)\n",
        "            shard.saving, shard.unsaved = None, []\n"
        "            self._save_seconds.append(self._clock.now() - sent_at)\n",
    ),
    Mutant(
        "seq-reused",
        "after a save whose answer was lost, a worker takes itself for a zombie",
        "pipeline/saver.py",
        "            self._save_seconds.append(math.inf)\n",
        "            self._save_seconds.append(math.inf)\n            shard.seq -= 1\n",
        needs="a failing store",
    ),
    Mutant(
        "finished-row-not-in-checkpoint",
        "the last row of each chunk is taken for saved, and is not",
        "pipeline/saver.py",
        "            finished=(*(saving.finished if saving else ()), *shard.unsaved),\n",
        "            finished=(*(saving.finished if saving else ()), *shard.unsaved[:-1]),\n",
    ),
    Mutant(
        "drain-forgets-tokens",
        "a drain saves finished rows, but no tokens in flight",
        "pipeline/saver.py",
        "            in_flight=shard.in_flight(tokens),\n",
        '            in_flight={} if end == "drained" else shard.in_flight(tokens),\n',
    ),
    Mutant(
        "drain-forgets-rows",
        "a drain saves tokens in flight, but not the rows finished since the last save",
        "pipeline/saver.py",
        "            finished=(*(saving.finished if saving else ()), *shard.unsaved),\n",
        "            finished=() if end == 'drained' else tuple(shard.unsaved),\n",
    ),
    Mutant(
        "drain-trusts-save-on-its-way",
        "a drain takes for saved what is not answered yet",
        "pipeline/saver.py",
        "            finished=(*(saving.finished if saving else ()), *shard.unsaved),\n",
        "            finished=tuple(shard.unsaved),\n",
    ),
    Mutant(
        "saved-tokens-twice",
        "tokens of earlier attempts are put before those that hold them already",
        "pipeline/held.py",
        "                found[row] = tuple(so_far)\n",
        "                found[row] = (*request.saved, *so_far)\n",
    ),
    Mutant(
        "seeded-row-continued",
        "a row goes on from saved tokens though its random numbers begin again",
        "pipeline/preparing.py",
        "    return Request(request_id, tokens, sampling)\n",
        "    return Request(request_id, tokens, sampling, saved)\n",
    ),
    Mutant(
        "oldest-save-wins",
        "a successor goes on from the first save of a row in flight, not from the newest",
        "pipeline/core/checkpoint.py",
        "        in_flight.update(point.in_flight)\n",
        "        in_flight = {**point.in_flight, **in_flight}\n",
    ),
    Mutant(
        "only-last-epoch-read",
        "what the attempt before the last one saved is generated again",
        "pipeline/ledger.py",
        "and name.epoch < before_epoch\n",
        "and name.epoch == before_epoch - 1\n",
    ),
    Mutant(
        "finished-rows-submitted",
        "a successor generates rows again that were finished",
        "pipeline/arranging.py",
        "        return _DONE if worth_copying else None\n",
        "        return _NEW if worth_copying else None\n",
    ),
    Mutant(
        "copies-not-counted",
        "answers that were copied count as decoded, and the books do not balance",
        "pipeline/held.py",
        "            copied=leader.completion_tokens,\n",
        "            copied=0,\n",
    ),
)
