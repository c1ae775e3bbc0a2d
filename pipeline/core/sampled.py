"""What a sample of a dataset's rows tells of all of them, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, lgamma, log, log1p, sqrt

from pipeline.core.spread import t_quantile

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class SampledShard:
    """A shard that was read: `planned` rows, `rows` of them left by the job's condition, and the
    figures of those that were looked at, drawn at random."""

    planned: int
    rows: int
    figures: Sequence[float]

    @property
    def mean(self) -> float:
        return sum(self.figures) / len(self.figures) if self.figures else 0.0

    @property
    def variance(self) -> float:
        """Of one row's figure."""
        if len(self.figures) < 2:
            return 0.0
        mean = self.mean
        return sum((one - mean) ** 2 for one in self.figures) / (len(self.figures) - 1)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A sum over all rows, and the bounds between which it lies with `CONFIDENCE`. Both are it
    where every row was counted, and None where one shard of many tells of no spread."""

    total: float
    low: float | None
    high: float | None

    @property
    def error(self) -> float | None:
        """Half of the interval, as a share of the sum."""
        if self.high is None:
            return None
        return (self.high - self.total) / self.total if self.total else 0.0

    def times(self, other: Estimate) -> Estimate:
        """The same, as unsure as an independent factor, which `other` estimates, makes it."""
        if self.error is None or other.error is None:
            return Estimate(self.total, None, None)
        half = self.total * sqrt(self.error**2 + other.error**2)
        return Estimate(self.total, max(0.0, self.total - half), self.total + half)


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum as a sample tells it: its `variance` by chance, estimated with so many `degrees` of
    freedom. None where one shard of many tells of no spread."""

    total: float
    variance: float | None
    degrees: float = inf

    @property
    def deviation(self) -> float | None:
        """Of a normal figure with the same upper tenth, as a share of the sum."""
        if self.variance is None:
            return None
        if not self.total:
            return 0.0
        wider = t_quantile(0.9, self.degrees) / t_quantile(0.9, inf)
        return wider * sqrt(self.variance) / self.total


def summed(sampled: Sequence[SampledShard], shards: int, rows: int) -> Sum:
    """The sum of a figure over a dataset of so many shards and planned rows, from shards that were
    drawn at random, all alike likely, and rows drawn within them.

    The ratio estimator of two-stage sampling by planned rows (Cochran, Sampling Techniques, 3rd
    ed., sections 11.7 and 11.12): what shards differ by, plus what rows within them differ by, each
    with its share not drawn. With every shard read, only the second is left.
    """
    drawn = len(sampled)
    if not shards:
        return Sum(0.0, 0.0)
    looked_at = sum(shard.planned for shard in sampled)
    if not looked_at:
        return Sum(0.0, None)
    ratio = sum(shard.rows * shard.mean for shard in sampled) / looked_at
    within = shards / drawn * sum(_within(shard) for shard in sampled)
    if drawn == shards:
        return Sum(ratio * rows, within, max(1, sum(len(s.figures) for s in sampled) - drawn))
    if drawn < 2:
        return Sum(ratio * rows, None)
    off = sum((shard.rows * shard.mean - ratio * shard.planned) ** 2 for shard in sampled)
    between = shards**2 / drawn * (1 - drawn / shards) * off / (drawn - 1)
    return Sum(ratio * rows, between + within, drawn - 1)


def estimate(sampled: Sequence[SampledShard], shards: int, rows: int) -> Estimate:
    """The same `Sum`, as an interval."""
    found = summed(sampled, shards, rows)
    if found.variance is None:
        return Estimate(found.total, None, None)
    half = t_quantile((1 + CONFIDENCE) / 2, found.degrees) * sqrt(found.variance)
    return Estimate(found.total, max(0.0, found.total - half), found.total + half)


def _within(shard: SampledShard) -> float:
    counted = len(shard.figures)
    if not counted:
        return 0.0
    return shard.rows**2 * (1 - counted / shard.rows) * shard.variance / counted


def most_hit(hit: int, drawn: int) -> float:
    """The share of all shards that may have what `hit` of `drawn` ones have, drawn at random: more
    of them have it in (1 - `CONFIDENCE`) / 2 of all cases (Clopper and Pearson 1934)."""
    if hit >= drawn:
        return 1.0
    low, high = hit / drawn, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        at_most_hit = sum(_binomial(k, drawn, middle) for k in range(hit + 1))
        low, high = (middle, high) if at_most_hit > (1 - CONFIDENCE) / 2 else (low, middle)
    return high


def _binomial(k: int, n: int, share: float) -> float:
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(share) + (n - k) * log1p(-share))
