"""What is done to a run, and when: drawn from one seed before anything starts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tests.chaos.proxy import Side, Weather

Kind = Literal[
    "kill worker",
    "kill supervisor",
    "kill workers",
    "kill all",
    "freeze",
    "drain",
    "drain all",
    "weather",
]
Moment = Literal[
    "boot", "load", "claim", "work", "beat", "checkpoint", "publish", "drain", "start", "finish"
]
"""Of a worker: `boot` until its first beat, `load` until it may work, `drain` after SIGTERM, `work`
whenever; `beat`, `claim`, `checkpoint` and `publish` are the very request. Of a supervisor: `start`
while it plans, `finish` the request that completes the run."""

OUTAGES: tuple[Weather, ...] = ("refuse", "stall", "slow down", "reset")

_MOMENTS: dict[Moment, int] = {
    "work": 28,
    "checkpoint": 18,
    "publish": 14,
    "claim": 12,
    "boot": 8,
    "load": 8,
    "beat": 6,
    "drain": 6,
}
_KINDS: dict[Kind, int] = {
    "kill worker": 68,
    "kill supervisor": 8,
    "kill workers": 3,
    "kill all": 3,
    "freeze": 10,
    "drain": 4,
    "drain all": 1,
    "weather": 3,
}


@dataclass(frozen=True, slots=True)
class Blow:
    """`pause_seconds` after the one before. `seconds` is how long a freeze or weather lasts, and
    how far into a boot, a start or a drain its kill comes."""

    kind: Kind
    pause_seconds: float
    moment: Moment = "work"
    side: Side = "before"
    seconds: float = 0.0
    weather: Weather = "fair"


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run and what befalls it. `exact` rows continue where they were; others begin again. A
    blow that finds nobody there waits for `patience_seconds`. Who is asked to drain is to be gone
    after `drain_seconds`, where that is set."""

    run_id: str
    rows: int
    shard_rows: int
    workers: int
    blows: tuple[Blow, ...]
    exact: bool = True
    window: int = 16
    tokens: int = 60
    step_seconds: float = 0.02
    lease_seconds: float = 4.0
    chunk_rows: int = 200
    chunk_seconds: float = 1.0
    patience_seconds: float = 8.0
    drain_seconds: float | None = None

    @property
    def away_seconds(self) -> float:
        """How long the store is away at most, at a stretch."""
        return max((blow.seconds for blow in self.blows if blow.kind == "weather"), default=0.0)

    @property
    def interval_tokens(self) -> float:
        """What one worker decodes between two checkpoints, its window full."""
        return self.window * self.chunk_seconds / self.step_seconds


def campaign(seed: int, outage_seconds: float) -> Iterator[RunPlan]:
    """Endless runs, the same for a seed: every other one has a long outage, of each kind in turn;
    the rows of every fifth begin again when they are interrupted."""
    number = 0
    while True:
        rng = random.Random(f"{seed}-{number}")
        # Row restarts lose more work than this fleet does between two kills this dense.
        exact = number % 5 != 4
        plan = RunPlan(
            run_id=f"chaos-{seed}-{number:02d}",
            rows=rng.randrange(2000, 3001) if exact else 1500,
            shard_rows=rng.choice((150, 300, 500)),
            workers=rng.choice((3, 4)),
            lease_seconds=rng.choice((4.0, 5.0, 6.0)),
            tokens=60 if exact else 20,
            exact=exact,
            blows=tuple(_blow(rng) for _ in range(24)),
        )
        if number % 2:
            outage = OUTAGES[number // 2 % len(OUTAGES)]
            long = Blow("weather", 1.0, seconds=outage_seconds, weather=outage)
            plan = replace(plan, blows=(*plan.blows[:10], long, *plan.blows[11:]))
        yield plan
        number += 1


def announced(seed: int, notices: int) -> RunPlan:
    """A run in which every loss is announced: workers, and sometimes all of them, are asked to
    drain and have the time to."""
    rng = random.Random(f"{seed}-announced")
    blows = tuple(
        Blow("drain all" if number % 10 == 9 else "drain", rng.uniform(0.8, 2.5))
        for number in range(notices)
    )
    return RunPlan(
        f"chaos-{seed}-announced",
        *(2400, 150, 3, blows),
        step_seconds=0.025,
        # Long, so that nobody is taken for dead on a busy machine.
        lease_seconds=15.0,
        drain_seconds=15.0,
    )


def smoke(seed: int) -> RunPlan:
    """A short run with a blow of most kinds."""
    rng = random.Random(f"{seed}-smoke")
    blows = (
        Blow("kill worker", 0.5, "claim", "after"),
        Blow("kill worker", 0.2, "checkpoint", "after"),
        Blow("weather", 0.2, seconds=2.0, weather=rng.choice(OUTAGES)),
        Blow("kill worker", 0.2, "boot", seconds=0.4),
        Blow("freeze", 0.2, "checkpoint", "before", seconds=4.0),
        Blow("kill worker", 0.2, "publish", rng.choice(("before", "after"))),
        Blow("kill all", 0.2, seconds=0.2),
        Blow("weather", 0.5, seconds=1.0, weather="lose answers"),
        Blow("kill worker", 0.2, "drain", seconds=0.1),
    )
    return RunPlan(
        f"smoke-{seed}",
        *(500, 100, 2, blows),
        tokens=30,
        lease_seconds=2.0,
        chunk_seconds=0.5,
        patience_seconds=4.0,
    )


def _blow(rng: random.Random) -> Blow:
    [kind] = rng.choices(list(_KINDS), list(_KINDS.values()))
    pause = min(5.0, rng.expovariate(1 / 1.2))
    side: Side = rng.choice(("before", "after"))
    match kind:
        case "kill worker":
            [moment] = rng.choices(list(_MOMENTS), list(_MOMENTS.values()))
            return Blow(kind, pause, moment, side, rng.uniform(0.0, _span(moment)))
        case "kill supervisor":
            moments: tuple[Moment, ...] = ("work", "start", "finish")
            return Blow(kind, pause, rng.choice(moments), side, rng.uniform(0.0, _span("start")))
        case "freeze":
            caught: tuple[Moment, ...] = ("work", "checkpoint", "publish")
            return Blow(kind, pause, rng.choice(caught), side, rng.uniform(8.0, 16.0))
        case "weather":
            weather = rng.choice((*OUTAGES, "lose answers"))
            return Blow(kind, pause, seconds=rng.uniform(2.0, 8.0), weather=weather)
        case _:
            # Who starts the survivors again takes a while to notice.
            return Blow(kind, pause, seconds=rng.uniform(0.0, 3.0))


def _span(moment: Moment) -> float:
    """How long a moment lasts, about, where no request tells."""
    return {"boot": 0.9, "start": 1.5, "drain": 0.25}.get(moment, 0.0)
