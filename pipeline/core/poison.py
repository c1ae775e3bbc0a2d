"""Which row kills the engine: found by halving the suspects, and never by guessing.

A strike is a witnessed death of an engine; that a worker vanished is none (decision 011).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALONE_STRIKES = 2
"""Deaths with nothing beside it in the engine after which a row is quarantined."""


@dataclass(frozen=True, slots=True)
class Strike:
    """An engine died with these `rows` of one shard in it, and `beside` rows of others.

    Epoch and `nth` name it: two checkpoints may tell of the same one.
    """

    epoch: int
    nth: int
    rows: tuple[int, ...]
    beside: int
    words: str

    @property
    def alone(self) -> bool:
        return len(self.rows) == 1 and self.beside == 0


def strike_from_json(document: Mapping[str, Any]) -> Strike:
    return Strike(**{**document, "rows": tuple(document["rows"])})


def condemned(strikes: Sequence[Strike]) -> frozenset[int]:
    """The rows that were alone in the engine at enough of its deaths."""
    alone = Counter(strike.rows[0] for strike in strikes if strike.alone)
    return frozenset(row for row, deaths in alone.items() if deaths >= ALONE_STRIKES)


def suspected(strikes: Sequence[Strike]) -> frozenset[int]:
    """The rows, finished ones too, of deaths that no condemned row explains."""
    return frozenset(row for strike in _unexplained(strikes) for row in strike.rows)


def next_trial(suspects: Collection[int], strikes: Sequence[Strike]) -> tuple[int, ...]:
    """The suspects to run next, with nothing beside them: half of those with the most strikes.

    `suspects` are the `suspected` rows of one shard that are unfinished.
    """
    counts = Counter(
        row for strike in _unexplained(strikes) for row in strike.rows if row in suspects
    )
    if not counts:
        return ()
    most = max(counts.values())
    likely = sorted(row for row, count in counts.items() if count == most)
    return tuple(likely[: (len(likely) + 1) // 2])


def _unexplained(strikes: Sequence[Strike]) -> list[Strike]:
    guilty = condemned(strikes)
    return [strike for strike in strikes if guilty.isdisjoint(strike.rows)]


def evidence(row: int, strikes: Sequence[Strike]) -> list[Strike]:
    """The strikes against a row, oldest first."""
    return [strike for strike in strikes if row in strike.rows]


def verdict(row: int, strikes: Sequence[Strike]) -> str:
    """What a quarantined row's `error` says."""
    against = evidence(row, strikes)
    alone = sum(strike.alone for strike in against)
    return (
        f"quarantined: the engine died {len(against)} times with this row in it, "
        f"{alone} times with nothing beside it; its last words: {against[-1].words}"
    )
