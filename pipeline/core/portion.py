"""Rows of a shard that others than its owner generate: who has them, and how many (decision 019).

A portion is a hint, as a lease is: whoever is wrong about one does work twice, and loses no row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.core.layout import ask_of, lease_of, portion_of, take_of

_PORTIONS_PER_ASKER = 2
"""Workers are not equally fast: who is done first finds a second one."""
_MOST_ROWS = 16_384
"""In one portion: minutes of work, after which a helper asks again. The list of its rows is in the
owner's memory, and what a helper that dies had is late."""


class AttemptName(NamedTuple):
    """A worker's time on a shard under an epoch; where `portion` is not 0, on that portion of it,
    offered in that epoch, and `take` says the how-many-th claim of it this was."""

    shard_id: int
    epoch: int
    portion: int = 0
    take: int = 0


class PortionName(NamedTuple):
    epoch: int
    portion: int


@dataclass(frozen=True, slots=True)
class Portion:
    """An offer of the owner in `epoch`, created once. `rows` are in the order of its line."""

    shard_id: int
    epoch: int
    portion: int
    rows: tuple[int, ...]
    worker_id: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Take:
    """A claim of a portion, created once. `owner_epoch` is set where the shard's owner in that
    epoch took it back: it is closed then, and its rows are the owner's own."""

    shard_id: int
    epoch: int
    portion: int
    take: int
    worker_id: str
    nonce: str
    claimed_at: str
    owner_epoch: int | None = None

    @property
    def name(self) -> AttemptName:
        return AttemptName(self.shard_id, self.epoch, self.portion, self.take)


@dataclass(slots=True)
class Claims:
    """What the names of the objects say of who has a shard: the newest epoch, the newest take of
    every portion (0: offered, and nobody took it), and who asked for rows."""

    epoch: int = 0
    takes: dict[PortionName, int] = field(default_factory=dict)
    asks: set[tuple[str, int]] = field(default_factory=set)


def claims_by_shard(keys: Iterable[str]) -> Mapping[int, Claims]:
    """What a listing of leases tells, by shard."""
    found: dict[int, Claims] = {}
    for key in keys:
        if (lease := lease_of(key)) is not None:
            claims = found.setdefault(lease.shard_id, Claims())
            claims.epoch = max(claims.epoch, lease.epoch)
        elif (offer := portion_of(key)) is not None:
            shard_id, *name = offer
            found.setdefault(shard_id, Claims()).takes.setdefault(PortionName(*name), 0)
        elif (taken := take_of(key)) is not None:
            shard_id, epoch, portion, take = taken
            takes, which = found.setdefault(shard_id, Claims()).takes, PortionName(epoch, portion)
            takes[which] = max(takes.get(which, 0), take)
        elif (ask := ask_of(key)) is not None:
            shard_id, worker_id, number = ask
            found.setdefault(shard_id, Claims()).asks.add((worker_id, number))
    return found


def rows_to_spare(unbegun: int, window: int) -> int:
    """Rows that an owner would share: all that are in nobody's engine or line to it, unless they
    are fewer than an engine takes at once, which is not worth the requests."""
    return unbegun if unbegun >= window else 0


def portion_sizes(unbegun: int, in_line: int, askers: int, window: int) -> tuple[int, ...]:
    """Rows of each portion to offer now, so that the owner and its askers have equally much.

    `unbegun` rows can be given away, `in_line` are prepared and stay with the owner. None is
    smaller than a `window`.
    """
    share = -(-(unbegun + in_line) // (askers + 1))
    given = min(unbegun, unbegun + in_line - max(share, in_line))
    if given < window <= unbegun:
        # Less than an equal share may be left to the owner, but never nothing to an asker.
        given = window
    pieces = min(_PORTIONS_PER_ASKER * askers, given // max(1, window))
    sizes = (given * (n + 1) // pieces - given * n // pieces for n in range(pieces))
    return tuple(min(size, max(window, _MOST_ROWS)) for size in sizes)


def taken_from_end(
    stretches: deque[Sequence[int]], count: int, stays: Callable[[int], bool]
) -> list[int]:
    """Take up to `count` rows out of the last stretches, the last row first; those that have to
    stay are left where they are, in order."""
    rows: list[int] = []
    aside: list[Sequence[int]] = []
    while stretches and len(rows) < count:
        stretch = stretches.pop()
        kept: list[int] = []
        left = len(stretch)
        while left and len(rows) < count:
            left -= 1
            (kept if stays(stretch[left]) else rows).append(stretch[left])
        # A range that is cut stays one: it may be long.
        aside.append((*stretch[:left], *reversed(kept)) if kept else stretch[:left])
    stretches.extend(stretch for stretch in reversed(aside) if stretch)
    return rows
