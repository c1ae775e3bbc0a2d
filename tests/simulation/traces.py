"""Recorded lives of spot nodes: when each was given, and when it was taken."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds since the trace began; `lost` is False of a node that outlived the trace."""

    added: float
    removed: float
    lost: bool = True

    @property
    def seconds(self) -> float:
        return self.removed - self.added


@dataclass(frozen=True, slots=True)
class SpotTrace:
    """Lives in the order of their beginnings; all are over by `end`."""

    name: str
    lives: tuple[Lifetime, ...]
    end: float

    @property
    def node_seconds(self) -> float:
        return sum(life.seconds for life in self.lives)

    @property
    def losses(self) -> int:
        return sum(life.lost for life in self.lives)

    @property
    def losses_per_node_hour(self) -> float:
        return self.losses / self.node_seconds * 3_600

    @property
    def most_at_once(self) -> int:
        """Nodes that were up at the same moment, at the most."""
        ends = sorted(life.removed for life in self.lives)
        begun = enumerate(self.lives, start=1)
        return max((n - bisect_left(ends, life.added) for n, life in begun), default=0)

    def at_rate(self, losses_per_node_hour: float) -> SpotTrace:
        """The same lives, all longer or shorter by one factor."""
        factor = self.losses_per_node_hour / losses_per_node_hour
        lives = (
            Lifetime(life.added * factor, life.removed * factor, life.lost) for life in self.lives
        )
        return SpotTrace(self.name, tuple(lives), self.end * factor)

    def every(self, nth: int) -> SpotTrace:
        """Each `nth` life: the same rate of loss, but for chance, on a smaller fleet."""
        return replace(self, lives=self.lives[::nth])

    def between(self, first: float, last: float) -> SpotTrace:
        """What happened in these seconds; nodes up at `first` are given then."""
        lives = (
            Lifetime(
                max(life.added, first) - first,
                min(life.removed, last) - first,
                life.lost and life.removed <= last,
            )
            for life in self.lives
            if life.removed > first and life.added < last
        )
        return SpotTrace(self.name, tuple(lives), last - first)


def read_events(path: Path) -> SpotTrace:
    """Lines of milliseconds, `add` or `remove`, and the node's name (bamboo). Raises `ValueError`
    when a node is added twice or removed unadded."""
    up: dict[str, float] = {}
    lives: list[Lifetime] = []
    with path.open(newline="") as lines:
        events = [(int(ms) / 1_000, what, node) for ms, what, node in csv.reader(lines)]
    first, end = events[0][0], max(second for second, _, _ in events)
    for second, what, node in events:
        if (what == "add") is (node in up):
            raise ValueError(f"{path}: {what} of {node} at {second:.0f} s makes no sense")
        if what == "add":
            up[node] = second - first
        else:
            lives.append(Lifetime(up.pop(node), second - first))
    lives += (Lifetime(added, end - first, lost=False) for added in up.values())
    return _trace(path.stem, lives, end - first)


def read_counts(path: Path, seed: int = 0) -> SpotTrace:
    """Lines of date, time, and how many nodes were up (bamboo's gcloud). See `lives_of_counts`."""
    samples: list[tuple[datetime, int]] = []
    with path.open(newline="") as lines:
        for date, time, count in csv.reader(lines):
            at = datetime.fromisoformat(f"{date}T{time.strip()}")
            # Where the times step back, an observation was taken anew: the later line counts.
            while samples and samples[-1][0] >= at:
                samples.pop()
            samples.append((at, int(count)))
    return _of_samples(path.stem, [samples], seed)


def read_columns(path: Path, name: str, columns: Sequence[str], seed: int = 0) -> SpotTrace:
    """A table whose first column is a time, and whose `columns` count nodes (SkyNomad)."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    times = [datetime.fromisoformat(next(iter(row.values()))) for row in rows]
    series = [
        [(at, int(row[column] or 0)) for at, row in zip(times, rows, strict=True)]
        for column in columns
    ]
    return _of_samples(name, series, seed)


def lives_of_counts(samples: Iterable[tuple[float, int]], dice: Random) -> list[Lifetime]:
    """Nodes of which only the number is known: whom a loss strikes is drawn by lot."""
    up: list[float] = []
    lives: list[Lifetime] = []
    at = 0.0
    for at, count in samples:
        up.extend([at] * (count - len(up)))
        while len(up) > count:
            lives.append(Lifetime(up.pop(dice.randrange(len(up))), at))
    return [*lives, *(Lifetime(added, at, lost=False) for added in up)]


def _of_samples(
    name: str, series: Sequence[Sequence[tuple[datetime, int]]], seed: int
) -> SpotTrace:
    first = min(samples[0][0] for samples in series)
    dice = Random(seed)
    lives: list[Lifetime] = []
    end = 0.0
    for samples in series:
        counted = [((at - first).total_seconds(), count) for at, count in samples]
        lives += lives_of_counts(counted, dice)
        end = max(end, counted[-1][0])
    return _trace(name, lives, end)


def _trace(name: str, lives: Iterable[Lifetime], end: float) -> SpotTrace:
    """A node that is gone in the moment in which it came, was never there."""
    real = (life for life in lives if life.seconds > 0)
    return SpotTrace(name, tuple(sorted(real, key=lambda life: life.added)), end)
