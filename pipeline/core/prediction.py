"""What a run is going to take and cost, from its rows, earlier runs of the job and a sample.

Machine seconds = what `Pace.seconds` makes of rows x output tokens a row, times what runs were off
by. Tokens a row and seconds for the tokens there were are two series of nights, each with its own
trend, noise and chance (`trend.next_after`); the second has longer waiting, slower machines and
interruptions that came in groups in it. The first counts as far as seconds are decoding, and not
starting. Cost = seconds x price; p50 and p90 are quantiles of that distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from math import log, sqrt
from statistics import variance

from pipeline.core.money import MICROS_PER_SECOND, dollars
from pipeline.core.past import (
    Pace,
    Past,
    PastRun,
    PastSession,
    interrupted_as,
)
from pipeline.core.row_tokens import decoded_share, row_tokens
from pipeline.core.sampled import SampledShard, summed
from pipeline.core.spread import Spread
from pipeline.core.trend import Seen, next_after

SAMPLED_RATE_SPREAD = 0.15
"""How far a night's pace is taken to be from that of a sample's minute: an assumption."""
MIDDLE, HIGH = 0.5, 0.9


@dataclass(frozen=True, slots=True)
class Work:
    """The run to come: rows that are to be answered, and the workers that start on them.
    `chunk_seconds` is how often they save; `rows_error` the variance of the logarithm of `rows`."""

    rows: int
    workers: int
    chunk_seconds: float
    rows_error: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """Output tokens expected of a run, `expected` before what `spread` says of it. `per_row` and
    `row_spread` are mean and standard deviation of one row's."""

    expected: float
    decoded_share: float
    spread: Spread
    per_row: float
    row_spread: float
    from_runs: bool

    def at(self, share: float) -> float:
        return self.expected * self.spread.factor(share)


def tokens_from_runs(past: Past, work: Work) -> OutputTokens | None:
    """None without a run that answered anything."""
    known = row_tokens(past.runs)
    if known is None:
        return None
    spread = known.spread(work.rows).wider(work.rows_error)
    return OutputTokens(
        known.mean * work.rows,
        decoded_share(past.runs),
        spread,
        known.mean,
        known.row_spread,
        from_runs=True,
    )


def tokens_from_sample(
    sampled: Sequence[SampledShard], shards: int, work: Work, runs: Sequence[PastRun] = ()
) -> OutputTokens | None:
    """From the output tokens of rows drawn by chance in shards that were, of so many `shards` in
    which there are rows; a row that came to nothing has none. How many rows are copies of others
    `runs` tell, and no sample can. None where one shard of many tells of no spread."""
    found = summed(sampled, shards, work.rows)
    if found.deviation is None:
        return None
    lengths = [length for shard in sampled for length in shard.figures]
    row_variance = variance(lengths) if len(lengths) > 1 else 0.0
    mean = found.total / work.rows if work.rows else 0.0
    spread = Spread(known=sqrt(found.deviation**2 + work.rows_error))
    return OutputTokens(
        found.total, decoded_share(runs), spread, mean, sqrt(row_variance), from_runs=False
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """A generated sample's pace: decoded tokens a second, and the seconds to boot and to load."""

    tokens_per_second: float
    start_seconds: float

    def of_machine(self, sampled: Fraction, worker: Fraction) -> Measured:
        """In the machine's own time, if the `sampled` share of it was as fast as that, and a worker
        is going to have another. A machine's workers are taken to be as fast together as one that
        has it to itself."""
        return Measured(self.tokens_per_second / float(sampled), self.start_seconds * float(worker))


@dataclass(frozen=True, slots=True)
class Forecast:
    """Machine seconds of a run on one kind of machine: `expected`, and what `spread` says of that.
    `overhead` is the share that decodes nothing that counts; `parts` are standard deviations, as
    shares of the whole, of what the spread is made of."""

    expected: float
    spread: Spread
    overhead: float
    interruptions: float
    parts: Mapping[str, float]

    def seconds(self, share: float) -> float:
        return self.expected * self.spread.factor(share)

    def usd(self, share: float, usd_per_hour: Decimal | None) -> Decimal | None:
        return dollars(round(self.seconds(share) * MICROS_PER_SECOND), usd_per_hour)


def forecast(
    work: Work,
    tokens: OutputTokens,
    past: Past,
    machine: str,
    lifecycle: str,
    measured: Measured | None = None,
    slower: float = 1.0,
) -> Forecast | None:
    """Of the run on such machines, if they decoded so many times `slower`; None where neither a run
    nor `measured` tells their pace."""
    pace = past.pace(machine, lifecycle)
    if pace is not None:
        return forecast_at(work, tokens, past, replace(pace, rate=pace.rate / slower))
    if measured is None or (measured.tokens_per_second <= 0 and tokens.expected):
        return None
    # Where nothing is decoded, any pace will do.
    rate = (measured.tokens_per_second or 1.0) / slower
    calm = Pace(rate, 0.0, measured.start_seconds, 0.0, 0.0)
    pace = interrupted_as(calm, (), lifecycle, work.chunk_seconds)
    found = _expected(work, tokens, pace, Spread(known=SAMPLED_RATE_SPREAD))
    spread = found.spread.wider(pace.chance(found.expected))
    return replace(found, spread=spread, parts={**found.parts, "sampled_pace": SAMPLED_RATE_SPREAD})


def forecast_at(work: Work, tokens: OutputTokens, past: Past, pace: Pace) -> Forecast:
    """Of the run at this pace, as far off as `past` was."""
    expected = pace.seconds(tokens.at(MIDDLE) * tokens.decoded_share, work.workers)
    return _expected(work, tokens, pace, next_after(paces_seen(past), pace.chance(expected)))


def _expected(work: Work, tokens: OutputTokens, pace: Pace, off: Spread) -> Forecast:
    """`off` is the spread of the seconds for tokens that are known."""
    decoded = tokens.at(MIDDLE) * tokens.decoded_share
    seconds = pace.seconds(decoded, work.workers)
    # What is starting stays what it is when answers are longer.
    decoding = 1 - pace.seconds(0.0, work.workers) / seconds if seconds else 0.0
    of_tokens = decoding * tokens.spread.deviation
    return Forecast(
        expected=seconds,
        spread=off.wider(of_tokens**2),
        overhead=1 - decoded / pace.rate / seconds if seconds else 0.0,
        interruptions=pace.interruptions * seconds / 3_600,
        parts={
            "earlier_runs": off.deviation,
            "interruptions": sqrt(pace.chance(seconds)),
            "output_tokens": of_tokens,
        },
    )


def paces_seen(past: Past) -> list[Seen]:
    """By how much each run took longer than its tokens would have let one expect, oldest first."""
    found = []
    for run in reversed(past.runs):
        expected = _expected_seconds(run, past)
        if expected > 0:
            found.append(Seen(log(run.seconds / expected), _interrupted_by_chance(run, past)))
    return found


def _groups(run: PastRun) -> dict[tuple[str, str], list[PastSession]]:
    found: dict[tuple[str, str], list[PastSession]] = {}
    for session in run.sessions:
        found.setdefault((session.machine, session.lifecycle), []).append(session)
    return found


def _expected_seconds(run: PastRun, past: Past) -> float:
    """What the paces of all runs make of this one, each kind of machine with its share of it."""
    whole = sum(session.decoded for session in run.sessions)
    total = 0.0
    for (machine, lifecycle), sessions in _groups(run).items():
        pace = past.pace(machine, lifecycle)
        if pace is None or not whole:
            total += sum(session.seconds for session in sessions)
            continue
        share = sum(session.decoded for session in sessions) / whole
        begun = sum(not session.interrupted for session in sessions)
        total += pace.seconds((run.output - run.copied) * share, begun)
    return total


def _interrupted_by_chance(run: PastRun, past: Past) -> float:
    """The variance of the logarithm of its seconds by the number of interruptions alone."""
    found = 0.0
    for (machine, lifecycle), sessions in _groups(run).items():
        pace = past.pace(machine, lifecycle)
        seconds = sum(session.seconds for session in sessions)
        if pace is not None and seconds:
            found += pace.chance(seconds) * (seconds / run.seconds) ** 2
    return found


def price_variance(past: Past, machine: str, lifecycle: str) -> float:
    """Of the logarithm of the next run's price, by what the runs paid an hour on such machines; 0
    where fewer than two of them tell."""
    logs: list[float] = []
    for run in past.runs:
        sessions = _groups(run).get((machine, lifecycle), [])
        paid = sum(float(s.usd) for s in sessions if s.usd is not None)
        hours = sum(s.seconds for s in sessions if s.usd is not None) / 3_600
        if paid > 0 and hours > 0:
            logs.append(log(paid / hours))
    return variance(logs) * (1 + 1 / len(logs)) if len(logs) > 1 else 0.0
