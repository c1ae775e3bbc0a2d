"""What it cost that workers were taken away, as one figure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipeline.core.bills import ENDED
from pipeline.core.cost_lines import Life, Line, RunBooks
from pipeline.core.manifest import Parting, left_early, partings
from pipeline.core.money import decimal_text, sum_of
from pipeline.core.percent import percent
from pipeline.core.times import moment

Json = dict[str, Any]


def taken_away(left: Iterable[Parting], states: Mapping[str, str], over: bool) -> frozenset[str]:
    """Of the workers that `left` early, those that had no error of their own; once the run is
    `over`, also those whose session never said that it ended. `states` has each session's.
    """
    gone = left_early(left, states)
    silent = {name for name, state in states.items() if over and state not in ENDED}
    failed = {name for name, state in states.items() if state == "failed"}
    return frozenset({*gone, *silent} - failed)


def preempted(books: RunBooks) -> frozenset[str]:
    """Workers that left before the work was done, and not because of an error of their own.

    Books cannot tell a machine that was reclaimed from a person who stopped the run: that
    interruption counts too.
    """
    attempts = (attempt for manifest in books.manifests for attempt in manifest["attempts"])
    states = {row["worker_id"]: row["state"] for row in books.run["workers"]}
    return taken_away(partings(attempts), states, books.complete)


def replacements(gone: Iterable[str], lives: Mapping[str, Life]) -> frozenset[str]:
    """Workers that took the place of those: of the sessions in the order they began, each one
    that began after the last beat of a preempted one whose place nobody had taken yet.

    At most one for each that is gone, by the times that they wrote themselves.
    """
    # Of one that only an attempt names, nobody knows when it lived.
    left = [name for name in gone if name in lives]
    ends = sorted((end, name) for name in left if (end := moment(lives[name][1])))
    starts = sorted((start, name) for name in lives if (start := moment(lives[name][0])))
    vacant, found = deque(ends), set()
    for start, name in starts:
        # One that is gone as soon as it began took no place of its own.
        if vacant and vacant[0][0] <= start and vacant[0][1] != name:
            vacant.popleft()
            found.add(name)
    return frozenset(found)


def price_of_preemption(
    gone: Collection[str], lives: Mapping[str, Life], lines: Sequence[Line], total: Decimal | None
) -> Json:
    """What the run would not have paid if no worker had been taken away, as far as books tell.

    `gone` are those that were; `lives` has the first and the last beat's time of every worker.

    The sum of five, each null when a price in it is unknown:
    `wasted_work`: the wasted seconds of preempted workers that shards are charged with, which is
    what their last beats show beyond their last checkpoints;
    `unpublished`: their wasted seconds that no shard is charged with, decoded in a last interval
    or for a shard that another published;
    `drain`: their seconds from the notice to the end, without a shard;
    `replacement_boot` and `replacement_load`: those of the workers that took their places.

    Not in it, for nobody counts them: prompts that are put in again for rows that go on from saved
    tokens, and time in which a place stayed empty. `percent` is of the run's `total`. In a run in
    progress, only what published shards prove.
    """
    instead = replacements(gone, lives)
    of_gone = [line for line in lines if line.worker_id in gone]
    of_instead = [line for line in lines if line.worker_id in instead]
    parts = {
        "wasted_work": _cost("wasted", (x for x in of_gone if x.shard_id is not None)),
        "unpublished": _cost("wasted", (x for x in of_gone if x.shard_id is None)),
        "drain": _cost("drain", of_gone),
        "replacement_boot": _cost("boot", of_instead),
        "replacement_load": _cost("load", of_instead),
    }
    whole = sum_of(parts.values())
    return {
        "workers": len(gone),
        "replacements": len(instead),
        **{name: decimal_text(amount) for name, amount in parts.items()},
        "total": decimal_text(whole),
        "percent": decimal_text(percent(whole, total)),
    }


def _cost(bucket: str, lines: Iterable[Line]) -> Decimal | None:
    return sum_of(None if line.usd is None else line.usd[bucket] for line in lines)
