"""How many output tokens a row of a job has, by its earlier runs, and what rows differ by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import NamedTuple

from pipeline.core.past import PastRun
from pipeline.core.spread import Spread
from pipeline.core.trend import Seen, next_after


@dataclass(frozen=True, slots=True)
class RowTokens:
    """Output tokens a row, over all runs, and by how much each run was off from that, oldest first:
    in tokens a row, and the rows it had. Shards' means differ by `shard_spread` beyond chance."""

    mean: float
    row_spread: float
    shard_spread: float
    shard_rows: float
    runs: tuple[tuple[float, int], ...]

    def spread(self, rows: int) -> Spread:
        """Of the next run's, which has so many rows."""
        seen = [Seen(off, self.chance(of)) for off, of in self.runs]
        return next_after(seen, self.chance(rows))

    def chance(self, rows: int) -> float:
        """The variance of the logarithm of the mean of so many rows, by chance alone: that of rows,
        and that of the shards that they come in, of which there is one at least."""
        if not rows:
            return 0.0
        of_rows = self.row_spread**2 / rows
        of_shards = self.shard_spread**2 * min(1.0, self.shard_rows / rows)
        return (of_rows + of_shards) / self.mean**2


def row_tokens(runs: Sequence[PastRun]) -> RowTokens | None:
    """Of these runs, the newest first; None without any."""
    if not runs:
        return None
    rows, output = sum(run.rows for run in runs), sum(run.output for run in runs)
    mean = output / rows
    known = [run.row_spread**2 for run in runs if run.row_spread is not None]
    return RowTokens(
        mean=mean,
        # Answers without a known spread are taken to spread as much as they are long.
        row_spread=sqrt(_mean(known)) if known else mean,
        shard_spread=sqrt(_mean([run.shard_spread**2 for run in runs])),
        shard_rows=_mean([run.shard_rows for run in runs]),
        runs=tuple((log(run.output / run.rows / mean), run.rows) for run in reversed(runs)),
    )


def decoded_share(runs: Sequence[PastRun]) -> float:
    """Of output tokens, those that were no copies of another row's; 1 without any run."""
    output = sum(run.output for run in runs)
    return 1 - sum(run.copied for run in runs) / output if output else 1.0


class ShardTokens(NamedTuple):
    """A shard's rows, the sum of their output tokens, and of the squares of these."""

    rows: int
    tokens: int
    squares: int


def spreads_of(shards: Sequence[ShardTokens]) -> tuple[float | None, float]:
    """Standard deviations: of a row's tokens around its shard's mean, and of shards' means beyond
    what chance makes of their rows. By the analysis of variance (Searle, Casella and McCulloch,
    Variance Components, 1992, section 3.6); the first is None of shards with a row each."""
    shards = [shard for shard in shards if shard.rows]
    rows, tokens = sum(shard.rows for shard in shards), sum(shard.tokens for shard in shards)
    if rows <= len(shards):
        return None, 0.0
    within = sum(shard.squares - shard.tokens**2 / shard.rows for shard in shards)
    of_row = within / (rows - len(shards))
    if len(shards) < 2:
        return sqrt(of_row), 0.0
    between = sum(shard.tokens**2 / shard.rows for shard in shards) - tokens**2 / rows
    alike = rows - sum(shard.rows**2 for shard in shards) / rows
    of_shard = (between - (len(shards) - 1) * of_row) / alike
    return sqrt(of_row), sqrt(max(0.0, of_shard))


def row_spread_of(shards: Sequence[tuple[int, int]]) -> float | None:
    """The standard deviation of one row's tokens, from (rows, tokens) alone, as manifests of
    earlier versions have them. Of shards that rows were dealt to by chance, for a shard's mean
    varies by one row's variance over its rows; where shards differ by more, it is too large."""
    shards = [shard for shard in shards if shard[0]]
    if len(shards) < 2:
        return None
    mean = sum(tokens for _, tokens in shards) / sum(rows for rows, _ in shards)
    off = sum(rows * (tokens / rows - mean) ** 2 for rows, tokens in shards)
    return sqrt(off / (len(shards) - 1))


def _mean(figures: Sequence[float]) -> float:
    return sum(figures) / len(figures)
