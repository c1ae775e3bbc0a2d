"""What a shard's owner knows of the rows that it lent to other workers (decision 019)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pipeline.core.checkpoint import Attempt, Checkpoint, Progress, fold, in_order
from pipeline.core.portion import AttemptName, Claims, Portion, PortionName
from pipeline.core.rows import FinishedRow
from pipeline.ledger import Ledger


@dataclass(slots=True)
class AwayPortion:
    """A portion that somebody works on or may take. `left` are its rows without an answer; of what
    its takers saved, `points` are all but the finished rows."""

    name: PortionName
    left: set[int]
    points: list[Checkpoint] = field(default_factory=list)

    def learn(self, points: Iterable[Checkpoint]) -> list[FinishedRow]:
        """Take new checkpoints in; the rows that are answered by them, and were not before."""
        answered: list[FinishedRow] = []
        for point in points:
            for row in point.finished:
                if row.row in self.left:
                    self.left.discard(row.row)
                    answered.append(row)
            self.points.append(replace(point, finished=()))
        return answered

    @property
    def progress(self) -> Progress:
        return fold(in_order(self.points))


@dataclass(slots=True)
class Lent:
    """`claims` is what the last beat saw; of its asks, `heeded` ones need no more. `unsent` are the
    portions whose rows left the line, and that nobody can take yet. `known` are the keys of the
    checkpoints that were read, `helpers` the accounts of those who are done."""

    away: dict[PortionName, AwayPortion] = field(default_factory=dict)
    claims: Claims | None = None
    heeded: set[tuple[str, int]] = field(default_factory=set)
    unsent: list[Portion] = field(default_factory=list)
    offered: int = 0
    known: set[str] = field(default_factory=set)
    helpers: list[Attempt] = field(default_factory=list)
    busy: bool = False
    looked_at: float = 0.0
    store_after: float = 0.0

    @property
    def count(self) -> int:
        return sum(len(portion.left) for portion in self.away.values())

    @property
    def rows(self) -> set[int]:
        return {row for portion in self.away.values() for row in portion.left}


def lent_before(ledger: Ledger, shard_id: int, epoch: int, progress: Progress) -> Lent:
    """What earlier owners of a shard lent, and is not back: their successor waits for it, too.

    `progress` is what was known of the shard before the portions are looked at here: what becomes
    known in between is collected later.
    """
    lent = Lent()
    if epoch == 1:
        return lent
    claims = ledger.portions.claims(shard_id)
    # Whoever asked a predecessor is served by now, gone, or asks again.
    lent.heeded |= claims.asks
    for name, newest in claims.takes.items():
        portion = ledger.portions.portion(shard_id, name)
        take = ledger.portions.take(AttemptName(shard_id, *name, newest)) if newest else None
        closed = take is not None and take.owner_epoch is not None
        rows = portion.rows if portion else ()
        left = {row for row in rows if row not in progress.finished}
        if left and not closed:
            lent.away[name] = AwayPortion(name, left)
    return lent
