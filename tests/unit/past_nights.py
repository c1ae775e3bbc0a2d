"""Simulated nights of one job on spot machines: what their books say, and what they cost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from math import exp

from pipeline.core.money import Buckets, dollars
from pipeline.core.past import PastRun, PastSession
from pipeline.core.row_tokens import row_spread_of

MACHINE, PRICE = "g6.xlarge", Decimal("0.36")
CHUNK_SECONDS = 10.0
WORKERS = 4
_SHARD_ROWS = 50


@dataclass(slots=True)
class Job:
    """The truth behind a job, which no prediction is told. Its answers grow by a share a night."""

    dice: random.Random
    rows: int = 400
    growth: float = 0.0
    nights: int = field(default=0, init=False)
    log_length: float = field(init=False)
    length_spread: float = field(init=False)
    rate: float = field(init=False)
    start: float = field(init=False)
    idle: float = field(init=False)
    interruptions: float = field(init=False)
    nightly: float = field(init=False)

    def __post_init__(self) -> None:
        dice = self.dice
        self.log_length = dice.uniform(4.0, 6.0)
        self.length_spread = dice.uniform(0.3, 0.9)
        self.start = dice.uniform(20.0, 120.0)
        self.idle = dice.uniform(0.0, 0.1)
        self.interruptions = dice.uniform(0.1, 1.4)
        self.nightly = dice.uniform(0.02, 0.10)
        # Some hours of work for the fleet, as a night has.
        self.rate = self.rows * exp(self.log_length) / (3_600 * dice.uniform(2.0, 12.0))

    def lengths(self, rows: int, shift: float = 0.0) -> list[int]:
        centre, spread = self.log_length + shift, self.length_spread
        return [max(1, round(self.dice.lognormvariate(centre, spread))) for _ in range(rows)]

    def night(self, name: str, lifecycle: str = "spot") -> PastRun:
        """One run: longer answers or a slower machine as it comes, and interruptions that take one
        worker, or two at once, each with what it had not saved."""
        dice = self.dice
        grown = self.growth * self.nights
        self.nights += 1
        lengths = self.lengths(self.rows, grown + dice.gauss(0.0, self.nightly / 2))
        rate = self.rate * exp(dice.gauss(0.0, self.nightly))
        output = sum(lengths)
        left = output / rate * (1 + self.idle) + self.start * WORKERS
        worked, lost_seconds, lost = 0.0, 0.0, 0
        often = self.interruptions / 3_600 if lifecycle == "spot" else 0.0
        # Of an event, two workers go in one case of three: the rate counts workers.
        while often and (until := dice.expovariate(often / (4 / 3))) < left:
            worked += until
            gone = 1 + (dice.random() < 1 / 3)
            unsaved = sum(dice.uniform(0.0, CHUNK_SECONDS) for _ in range(gone))
            lost, lost_seconds = lost + gone, lost_seconds + unsaved
            left += -until + gone * self.start + unsaved
        wasted = round(lost_seconds * rate)
        sessions = tuple(
            self._session(lifecycle, output + wasted, rate, WORKERS + lost, number < lost)
            for number in range(WORKERS + lost)
        )
        shards = [
            lengths[first : first + _SHARD_ROWS] for first in range(0, self.rows, _SHARD_ROWS)
        ]
        return PastRun(
            run_id=name,
            planned=self.rows,
            rows=self.rows,
            input=self.rows * 100,
            output=output,
            copied=0,
            wasted=wasted,
            sessions=sessions,
            row_spread=row_spread_of([(len(shard), sum(shard)) for shard in shards]),
        )

    def _session(
        self, lifecycle: str, decoded: int, rate: float, sessions: int, interrupted: bool
    ) -> PastSession:
        decoding = decoded / rate / sessions
        buckets = Buckets(
            load=round(self.start * 1e6),
            useful=round(decoding * 1e6),
            idle=round(decoding * self.idle * 1e6),
        )
        usd = dollars(buckets.total, PRICE)
        tokens = round(decoded / sessions)
        return PastSession(MACHINE, lifecycle, tokens, buckets, interrupted, usd)


def usd_of(run: PastRun) -> Decimal:
    return sum((session.usd or Decimal(0) for session in run.sessions), Decimal(0))
