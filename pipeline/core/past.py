"""What earlier runs of a job tell of the next one: the pace of their sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from pipeline.core.money import MICROS_PER_SECOND, SPOT, Buckets

TRACED = (0.4, 1.0)
"""Interruptions seen in so many spot node-hours, as real traces of 16 spot nodes have them (0.1 to
1.4 an hour), beside those that the job's own runs saw: they fade as its own hours grow."""


@dataclass(frozen=True, slots=True)
class PastSession:
    """A worker's session as a run's manifest has it; `interrupted` when it did not end by itself
    with nothing left to do, as far as is known. `buckets` are its `node_share` of a machine's time:
    of four workers on one, each has a quarter of what its clock showed."""

    machine: str
    lifecycle: str
    decoded: int
    buckets: Buckets
    interrupted: bool = False
    usd: Decimal | None = None
    node_share: Fraction = Fraction(1)
    zone: str = "unknown"

    @property
    def seconds(self) -> float:
        return self.buckets.total / MICROS_PER_SECOND

    @property
    def decoding(self) -> float:
        return (self.buckets.useful + self.buckets.wasted) / MICROS_PER_SECOND


@dataclass(frozen=True, slots=True)
class PastRun:
    """A complete run. Of its `planned` rows, `rows` were answered; of its `output` tokens, `copied`
    were not decoded, and `wasted` ones were that are in no row. `row_spread` is the standard
    deviation of one row's output tokens, None where nobody knows it, and `shard_spread` that of the
    mean of a shard, of so many `shard_rows`, beyond what its rows are off by chance."""

    run_id: str
    planned: int
    rows: int
    input: int
    output: int
    copied: int
    wasted: int
    sessions: tuple[PastSession, ...]
    row_spread: float | None = None
    shard_spread: float = 0.0
    shard_rows: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(session.seconds for session in self.sessions)

    @property
    def replaced(self) -> int:
        """Sessions that another one had to go on for."""
        return sum(session.interrupted for session in self.sessions)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a session on a machine is expected to do. `rate` is decoded tokens a second of decoding;
    `idle` seconds come on top of each, `start` ones with each session (boot, load and drain).
    `interruptions` per hour of a session each cost a start and `lost` tokens; `unsure` is that
    rate's variance."""

    rate: float
    idle: float
    start: float
    interruptions: float
    lost: float
    unsure: float = 0.0

    def seconds(self, decoded: float, sessions: int) -> float:
        """Machine seconds to decode so many tokens that count.

        T = D (1 + idle) + start x sessions + K (start + lost / rate (1 + idle)), D = decoded /
        rate, with K = interruptions x T of them to be expected: solved for T. It is the first-order
        cost of failures under checkpoints (Young 1974, Daly 2006): each loses what was not yet
        saved, and a start.
        """
        calm = decoded / self.rate * (1 + self.idle) + self.start * sessions
        return calm / self._share_left(self.interruptions)

    @property
    def each(self) -> float:
        """Seconds that one interruption costs."""
        return self.start + self.lost / self.rate * (1 + self.idle)

    def chance(self, seconds: float) -> float:
        """The variance of the logarithm of `seconds` by interruptions alone: their number is
        Poisson's, for a rate that is not well known itself."""
        left = self._share_left(self.interruptions)
        expected = self.interruptions / 3_600 * seconds
        by_number = expected * (self.each / left / seconds) ** 2 if seconds else 0.0
        return by_number + self.unsure * (self.each / 3_600 / left) ** 2

    def _share_left(self, interruptions: float) -> float:
        # Where interruptions cost more than all time there is, no run would ever end.
        return max(0.05, 1 - interruptions / 3_600 * self.each)


def pace_of(
    runs: Sequence[PastRun], machine: str, lifecycle: str, chunk_seconds: float
) -> Pace | None:
    """From all sessions on such machines; None without one that decoded anything.

    What an interruption costs, and how often one comes, is asked of all sessions of the lifecycle,
    on any machine. On spot, `TRACED` counts as a run of its own (a gamma prior of a Poisson rate);
    before any interruption was seen, each is taken to lose a whole chunk.
    """
    every = [session for run in runs for session in run.sessions]
    own = [session for session in every if session.machine == machine]
    decoding, decoded = sum(s.decoding for s in own), sum(s.decoded for s in own)
    if decoding <= 0 or decoded <= 0:
        return None
    rate = decoded / decoding
    idle = sum(s.buckets.idle for s in own) / MICROS_PER_SECOND / decoding
    starts = sum(s.buckets.boot + s.buckets.load + s.buckets.drain for s in own)
    pace = Pace(rate, idle, starts / MICROS_PER_SECOND / len(own), 0.0, 0.0)
    return interrupted_as(pace, runs, lifecycle, chunk_seconds)


def interrupted_as(
    pace: Pace, runs: Sequence[PastRun], lifecycle: str, chunk_seconds: float
) -> Pace:
    """The same pace, with the interruptions of a lifecycle."""
    every = [session for run in runs for session in run.sessions]
    own = [session for session in every if session.lifecycle == lifecycle]
    traced = TRACED if lifecycle == SPOT else (0.0, 0.0)
    seen = sum(session.interrupted for session in own) + traced[0]
    hours = sum(session.seconds for session in own) / 3_600 + traced[1]
    often, unsure = (seen / hours, seen / hours**2) if hours else (0.0, 0.0)
    replaced = sum(run.replaced for run in runs)
    lost = sum(run.wasted for run in runs) / replaced if replaced else chunk_seconds * pace.rate
    return Pace(pace.rate, pace.idle, pace.start, often, lost, unsure)


@dataclass(frozen=True, slots=True)
class Past:
    """Those of the runs given that tell anything, and the pace on each kind of machine, found out
    once."""

    runs: tuple[PastRun, ...]
    chunk_seconds: float
    _paces: dict[tuple[str, str], Pace | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    @staticmethod
    def of(runs: Iterable[PastRun], chunk_seconds: float) -> Past:
        """Of these runs, the newest first."""
        told = (run for run in runs if run.rows and run.output and run.seconds > 0)
        return Past(tuple(told), chunk_seconds)

    def pace(self, machine: str, lifecycle: str) -> Pace | None:
        key = (machine, lifecycle)
        if key not in self._paces:
            self._paces[key] = pace_of(self.runs, machine, lifecycle, self.chunk_seconds)
        return self._paces[key]
