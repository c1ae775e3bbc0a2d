"""What comes next in a short series of logarithms, and how sure that is.

A figure of a nightly run stands at a level that may drift and may grow from night to night, and is
off from it by a noise of its own: the local linear trend model (Harvey, Forecasting, Structural
Time Series Models and the Kalman Filter, 1989, section 2.3.2). How large noise, drift and growth
are is not known of a job with a few nights, so none is estimated: every combination on a grid
predicts, and counts as much as it made what was seen likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

from pipeline.core.spread import Case, Spread

NOISES = (0.003, 0.5, 11)
"""From one night to the next, beyond chance: the least, the most, and how many at equal ratios. As
all are alike likely, nine of ten nights stay below their p90 however large theirs is."""
DRIFTS = ((0.0, 0.7), (0.5, 0.3))
"""Of the level in a night, as shares of the noise, and how likely each is at first."""
GROWTHS = ((0.0, 0.4), (0.03, 0.6))
"""How far a night's growth may be from none, and how likely each is at first."""
_NEGLIGIBLE = 1e-4


class Seen(NamedTuple):
    """A night's figure, and the variance that chance alone gives it."""

    log: float
    chance: float


def next_after(seen: Sequence[Seen], chance: float) -> Spread:
    """The figure after those `seen`, oldest first, where chance gives it this variance. Of nothing
    seen, it is around 0."""
    least, most, steps = NOISES
    ratio = (most / least) ** (1 / (steps - 1))
    weighed: list[tuple[float, float, float]] = []
    for step in range(steps):
        noise = least * ratio**step
        for drift, likely_drift in DRIFTS:
            for growth, likely_growth in GROWTHS:
                model = _Model(noise**2, (drift * noise) ** 2, growth**2)
                likelihood, centre, spread = model.follow(seen, chance)
                prior = log(likely_drift * likely_growth)
                weighed.append((prior + likelihood, centre, spread))
    best = max(weight for weight, _, _ in weighed)
    found = [(exp(weight - best), *rest) for weight, *rest in weighed]
    kept = [one for one in found if one[0] > _NEGLIGIBLE]
    whole = sum(weight for weight, _, _ in kept)
    return Spread(tuple(Case(weight / whole, *rest) for weight, *rest in kept))


@dataclass(frozen=True, slots=True)
class _Model:
    """Variances of the noise, of the level's drift in a night, and of its growth."""

    noise: float
    drift: float
    growth: float

    def follow(self, seen: Sequence[Seen], chance: float) -> tuple[float, float, float]:
        """The logarithm of how likely what was seen is, and the next figure's mean and deviation.

        The Kalman filter of level and growth, with nothing known of the level before the first.
        """
        if not seen:
            return 0.0, 0.0, sqrt(self.noise + chance)
        level, growth = seen[0].log, 0.0
        of_level, of_both, of_growth = self.noise + seen[0].chance, 0.0, self.growth
        likelihood = 0.0
        for one in (*seen[1:], None):
            level += growth
            of_level += 2 * of_both + of_growth + self.drift
            of_both += of_growth
            if one is None:
                break
            expected = of_level + self.noise + one.chance
            off = one.log - level
            likelihood -= (log(expected) + off**2 / expected) / 2
            level += of_level / expected * off
            growth += of_both / expected * off
            of_growth -= of_both**2 / expected
            of_both -= of_level * of_both / expected
            of_level -= of_level**2 / expected
        return likelihood, level, sqrt(of_level + self.noise + chance)
