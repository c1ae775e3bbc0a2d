"""How far off a predicted figure may be: quantiles of what is always above zero, from a few cases.

Figures of a run are products (rows x tokens x seconds x price), so they are looked at as
logarithms, where their spreads add up as variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, pi, sqrt, tan
from statistics import NormalDist

PRIOR_WEIGHT = 1
"""So many observed deviations the prior spread counts for beside those that were observed."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The logarithm of actual / predicted: about `centre`, Student's t of `scale` and `degrees`,
    plus an independent normal one of `known`, whose size rests on no observed run."""

    centre: float = 0.0
    scale: float = 0.0
    degrees: float = inf
    known: float = 0.0

    def factor(self, share: float) -> float:
        """What the prediction is multiplied with to be above `share` of all cases.

        The quantiles of the two parts are added as variances are, which is exact where both are
        normal.
        """
        if share == 0.5:
            return exp(self.centre)
        own = t_quantile(share, self.degrees) * self.scale
        known = NormalDist().inv_cdf(share) * self.known
        return exp(self.centre + (1 if share > 0.5 else -1) * sqrt(own**2 + known**2))

    def wider(self, variance: float) -> Spread:
        """With another independent source of error, of this variance of its logarithm."""
        return Spread(self.centre, self.scale, self.degrees, sqrt(self.known**2 + variance))


def spread_of(logs: Sequence[float], prior: float) -> Spread:
    """Of the next case, after the cases in `logs`; `prior` is the spread expected before any.

    The posterior predictive of a normal sample of unknown mean and variance (Gelman et al.,
    Bayesian Data Analysis, 3rd ed., section 3.3), with no prior on the mean and a scaled inverse
    chi-squared one of `PRIOR_WEIGHT` degrees on the variance: Student's t around the mean, with the
    pooled variance times 1 + 1 / n. With no case at all, the prior is all there is.
    """
    n = len(logs)
    if n == 0:
        return Spread(known=prior)
    centre = sum(logs) / n
    degrees = PRIOR_WEIGHT + n - 1
    squares = PRIOR_WEIGHT * prior**2 + sum((one - centre) ** 2 for one in logs)
    return Spread(centre, sqrt(squares / degrees * (1 + 1 / n)), degrees)


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
