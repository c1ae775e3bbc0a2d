"""Nights of a fleet on spot machines, without workers or a store: quiet ones, which are like those
before, and ones in which something makes tokens dearer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import exp
from typing import Any

from pipeline.core.cost_watch import PREFILL_SHARE
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.session import Session
from pipeline.core.spans import Span, all_seconds
from pipeline.core.usage import Usage, usage_of_session
from pipeline.cost_past import CostPast
from pipeline.cost_watching import CostWatch

HOURS = 8.0
EARLIER_RUNS = 5
_TICK = 100.0
_LEASE, _BEAT = 30.0, 7.5
_BOOT = 20.0
_IDLE = 0.01
_TOKENS_PER_SECOND = 2_500
_TOKENS_PER_STEP, _DRAFTS = 2.5, 4
_PROMPT_PER_TOKEN = 2.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Each worker is preempted so often in an hour, and its successor takes so long to load."""

    workers: int
    preempted: float
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is so many times as much from `hour` on; the default is none."""

    hour: float = 0.0
    price: float = 1.0
    slow: float = 1.0
    prompts: float = 1.0
    step: float = 1.0
    preempted: float = 1.0
    load: float = 1.0
    zone: str = "a"


NONE = Trouble()


@dataclass(slots=True)
class _Life:
    """One worker, from its boot until it is gone."""

    worker_id: str
    zone: str
    began: float
    to_load: float
    to_boot: float = _BOOT
    seconds: dict[NodePrice, dict[str, float]] = field(default_factory=dict)
    decoded: float = 0.0
    prompts: float = 0.0
    steps: float = 0.0
    beat: int = 0

    def live(self, seconds: float, price: NodePrice, rate: float, trouble: Trouble) -> None:
        spent = self.seconds.setdefault(
            price, dict.fromkeys(("boot", "load", "idle", "useful"), 0.0)
        )
        booting = min(seconds, self.to_boot)
        loading = min(seconds - booting, self.to_load)
        self.to_boot -= booting
        self.to_load -= loading
        idle = _IDLE * (seconds - booting - loading)
        useful = seconds - booting - loading - idle
        spent["boot"] += booting
        spent["load"] += loading
        spent["idle"] += idle
        spent["useful"] += useful
        per_token = _PROMPT_PER_TOKEN * trouble.prompts
        longer = (1 + PREFILL_SHARE * per_token) / (1 + PREFILL_SHARE * _PROMPT_PER_TOKEN)
        decoded = useful * rate / trouble.slow / trouble.step / longer
        self.decoded += decoded
        self.prompts += decoded * per_token
        self.steps += decoded * trouble.step / _TOKENS_PER_STEP
        self.beat += 1 + int(seconds / _BEAT)

    @property
    def session(self) -> Session:
        spans = [Span(price, Buckets.from_seconds(spent)) for price, spent in self.seconds.items()]
        return Session(
            self.worker_id,
            self.beat,
            "load" if self.to_load else "work",
            "",
            "",
            Node(zone=self.zone),
            spans[-1].price,
            all_seconds(spans),
            decoded=int(self.decoded),
            prompt_tokens=int(self.prompts),
            draft_proposed=int(_DRAFTS * self.steps),
            draft_accepted=int(self.decoded - self.steps),
            earlier=tuple(spans[:-1]),
            lease_seconds=_LEASE,
        )


def night(
    fleet: Fleet,
    dice: random.Random,
    look: Callable[[list[Session], float], None] | None = None,
    trouble: Trouble = NONE,
) -> Usage:
    """What it used, in all; `look` is shown its sessions as time goes by. Workers come one by one,
    in the first ten minutes."""
    pace = _TOKENS_PER_SECOND * dice.gauss(1.0, 0.02)
    gone: list[Session] = []
    at_first = NONE if trouble.hour else trouble
    lives = [_begun(n, fleet, dice, at_first, dice.uniform(0, 600)) for n in range(fleet.workers)]
    for tick in range(1, int(HOURS * 3_600 / _TICK) + 1):
        now = tick * _TICK
        of_now = NONE if now <= trouble.hour * 3_600 else trouble
        price = NodePrice(4 * Decimal(repr(of_now.price)), "made up")
        dies = 1 - exp(-fleet.preempted * of_now.preempted * _TICK / 3_600)
        for place, life in enumerate(lives):
            lived = min(_TICK, now - life.began)
            if lived <= 0:
                continue
            life.live(lived, price, pace * dice.gauss(1.0, 0.05), of_now)
            if dice.random() < dies:
                gone.append(life.session)
                lives[place] = _begun(fleet.workers + len(gone), fleet, dice, of_now, now)
        if look:
            look([*gone, *_sessions(lives)], now)
    return sum(map(usage_of_session, [*gone, *_sessions(lives)]), Usage())


def _begun(number: int, fleet: Fleet, dice: random.Random, trouble: Trouble, now: float) -> _Life:
    to_load = fleet.load_seconds * trouble.load * dice.uniform(0.9, 1.1)
    return _Life(f"w{number}", trouble.zone, now, to_load)


def _sessions(lives: Iterable[_Life]) -> list[Session]:
    return [life.session for life in lives if life.seconds]


@dataclass(frozen=True, slots=True)
class Told:
    """What a night's watch told first, so many `minutes` after the trouble began."""

    minutes: float
    cause: str


def told_in(
    fleet: Fleet, past: Sequence[Usage], dice: random.Random, trouble: Trouble = NONE
) -> Told | None:
    at = 0.0
    said: list[Told] = []

    def hear(_name: str, _sentence: str, figures: Mapping[str, Any]) -> None:
        said.append(Told(at / 60 - trouble.hour * 60, str(figures["cause"])))

    watch = CostWatch(CostPast(past), hear, workers=fleet.workers)

    def look(sessions: list[Session], now: float) -> None:
        nonlocal at
        at = now
        watch.look(sessions, now)

    night(fleet, dice, look, trouble)
    return said[0] if said else None


def told_in_nights(
    fleet: Fleet, nights: int, trouble: Trouble = NONE, runs: int = EARLIER_RUNS
) -> list[Told | None]:
    """Of each of so many nights, after so many quiet `runs`."""
    dice = random.Random(f"{fleet} {trouble}")
    past = [night(fleet, dice) for _ in range(runs)]
    found: list[Told | None] = []
    for _ in range(nights):
        found.append(told_in(fleet, past, dice, trouble))
        past = [*past, night(fleet, dice)][-runs:] if runs else []
    return found
