"""How far off a predicted figure may be: quantiles of what is always above zero, from a few cases.

Figures of a run are products (rows x tokens x seconds x price), so they are looked at as
logarithms, where their spreads add up as variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, inf, pi, sqrt, tan
from statistics import NormalDist

UPPER = 0.9
_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Case:
    """A normal distribution, and how likely it is that it is the one."""

    weight: float
    centre: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The logarithm of actual / predicted: as one of `cases` has it, whose weights sum to 1, plus
    an independent normal error of deviation `known`."""

    cases: Sequence[Case] = (Case(1.0, 0.0, 0.0),)
    known: float = 0.0

    def factor(self, share: float) -> float:
        """What the prediction is multiplied with to be above `share` of all cases."""
        return exp(self._quantile(share))

    @property
    def deviation(self) -> float:
        """Of the normal distribution whose upper tenth lies as far above its middle."""
        above = self._quantile(UPPER) - self._quantile(0.5)
        return above / NormalDist().inv_cdf(UPPER)

    def wider(self, variance: float) -> Spread:
        """With another independent source of error, of this variance of its logarithm."""
        return Spread(self.cases, sqrt(self.known**2 + variance))

    def _quantile(self, share: float) -> float:
        widths = [sqrt(case.deviation**2 + self.known**2) for case in self.cases]
        z = NormalDist().inv_cdf(share)
        own = [case.centre + z * width for case, width in zip(self.cases, widths, strict=True)]
        low, high = min(own), max(own)
        for _ in range(_BISECTIONS if high > low else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if self._below(middle, widths) < share else (low, middle)
        return high

    def _below(self, log: float, widths: Sequence[float]) -> float:
        return sum(
            case.weight * _normal_below(log - case.centre, width)
            for case, width in zip(self.cases, widths, strict=True)
        )


def _normal_below(off: float, width: float) -> float:
    if not width:
        return float(off >= 0)
    return 0.5 * erfc(-off / width / sqrt(2))


def t_quantile(share: float, degrees: float) -> float:
    """Student's t: exact for 1 and 2 degrees, else by the expansion in 1 / degrees (Abramowitz and
    Stegun, 26.7.5), which is right to 0.001 between 0.05 and 0.95."""
    if degrees == 1:
        return tan(pi * (share - 0.5))
    if degrees == 2:
        return (2 * share - 1) / sqrt(2 * share * (1 - share))
    z = NormalDist().inv_cdf(share)
    if degrees == inf:
        return z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))
