"""Whether speculation pays while it runs: readings of a worker's counters in, draft depths out.

A period at the depth in use, `home`, and one at a rival right after it make a pair; enough pairs
that agree make a switch. Times are seconds in which the engine worked, whoever counts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias

Phase: TypeAlias = Literal["rest", "home", "lead", "rival"]


@dataclass(frozen=True, slots=True)
class Rules:
    """`period_seconds` is a measured period; `explore_share` of the time goes to rivals that look
    worse. A switch takes `pairs`, a mean gain of `least_gain`, and `errors` standard errors."""

    period_seconds: float = 1.5
    explore_share: float = 0.02
    pairs: int = 4
    remembered: int = 8
    least_gain: float = 0.01
    errors: float = 2.5
    error_floor: float = 0.005
    lead_share: float = 0.25
    longest_lead_seconds: float = 60.0
    first_after_periods: int = 3
    glance_periods: int = 10
    acceptance_fall: float = 0.2
    unequal_windows: float = 0.1


@dataclass(frozen=True, slots=True)
class Reading:
    """What a worker has counted by `at`: all but `running` and `window` only grow."""

    at: float
    decoded: int
    rows: int
    proposed: int
    accepted: int
    running: int
    window: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A period at `home` and one at `rival`, in tokens a second."""

    at: float
    home: int
    rival: int
    home_rate: float
    rival_rate: float
    acceptance: float | None

    @property
    def advantage(self) -> float:
        """Of the rival: the logarithm of how many times as fast it was."""
        return math.log(self.rival_rate / self.home_rate)

    def to_json(self) -> dict[str, Any]:
        return {
            "rival_depth": self.rival,
            "depth_tokens_per_second": round(self.home_rate, 1),
            "rival_tokens_per_second": round(self.rival_rate, 1),
            "acceptance": None if self.acceptance is None else round(self.acceptance, 4),
        }


@dataclass(frozen=True, slots=True)
class Switch:
    """From one depth to another, and the pairs that showed it to be faster."""

    at: float
    before: int
    after: int
    pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        gain = math.exp(fmean(pair.advantage for pair in self.pairs)) - 1
        return {
            "after_engine_seconds": round(self.at, 1),
            "from_depth": self.before,
            "to_depth": self.after,
            "gain": round(gain, 4),
            "pairs": [pair.to_json() for pair in self.pairs],
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known by now. `depth` is the one the engine is to have, and `due` is when the next
    reading is wanted; it rests `until` then, if acceptance does not fall before. `cold` drafters
    lose their place in rows that ran without them."""

    home: int
    arms: tuple[int, ...]
    cold: bool
    rules: Rules = Rules()
    due: float = 0.0
    until: float = 0.0
    phase: Phase = "rest"
    asked: int = 0
    since: Reading | None = None
    home_rate: float = 0.0
    acceptance: float | None = None
    home_running: int = 0
    lifetime: float = 0.0
    pairs: tuple[Pair, ...] = ()
    switches: tuple[Switch, ...] = ()

    @property
    def rival(self) -> int:
        """Whom `home` is, or will next be, compared with."""
        others = [arm for arm in self.arms if arm != self.home]
        return others[self.asked % len(others)]

    @property
    def depth(self) -> int:
        return self.rival if self.phase in ("lead", "rival") else self.home


def begun(depth: int, cold: bool, now: float, rules: Rules = Rules()) -> Watch:
    """A watch over an engine that was loaded with this depth, 1 or more."""
    half = {depth // 2} if depth >= 4 else set()
    arms = tuple(sorted({0, depth} | half))
    start = now + rules.first_after_periods * rules.period_seconds
    return Watch(depth, arms, cold, rules, due=start, until=start)


def advance(watch: Watch, now: Reading) -> Watch:
    """The watch after a reading at or after `due`. Counters that went back, as after another
    engine took over, or a window that emptied, only make it rest."""
    since, rules = watch.since, watch.rules
    if watch.phase == "rest":
        if now.at >= watch.until or _acceptance_fell(watch, now):
            return replace(watch, phase="home", since=now, due=now.at + rules.period_seconds)
        return replace(watch, since=now, due=min(watch.until, now.at + _glance_seconds(rules)))
    assert since is not None  # noqa: S101 - only a watch at rest has nothing to compare with
    if not _comparable(since, now, rules):
        return _rest(watch, now, rules.period_seconds)
    if watch.phase == "home":
        return _led(watch, since, now)
    if watch.phase == "lead":
        return replace(watch, phase="rival", since=now, due=now.at + rules.period_seconds)
    return _compared(watch, since, now)


def _comparable(since: Reading, now: Reading, rules: Rules) -> bool:
    full = (1 - rules.unequal_windows) * since.running <= now.running
    return full and now.at > since.at and now.decoded > since.decoded and now.running > 0


def _rest(watch: Watch, now: Reading, seconds: float) -> Watch:
    until = now.at + seconds
    due = min(until, now.at + _glance_seconds(watch.rules))
    return replace(watch, phase="rest", since=now, due=due, until=until)


def _glance_seconds(rules: Rules) -> float:
    return rules.glance_periods * rules.period_seconds


def _acceptance_fell(watch: Watch, now: Reading) -> bool:
    before = watch.acceptance
    share = None if watch.since is None else _acceptance(watch.since, now)
    if before is None or share is None or watch.home == 0:
        return False
    return share < (1 - watch.rules.acceptance_fall) * before


def _acceptance(since: Reading, now: Reading) -> float | None:
    proposed = now.proposed - since.proposed
    return (now.accepted - since.accepted) / proposed if proposed > 0 else None


def _led(watch: Watch, since: Reading, now: Reading) -> Watch:
    """Home is measured; over to the rival, whose measuring begins when it has found its pace."""
    rules, seconds = watch.rules, now.at - since.at
    finished = (now.rows - since.rows) / seconds
    # By Little's law; with no row finished in a period, rows live longer than anybody waits.
    lifetime = now.running / finished if finished > 0 else rules.longest_lead_seconds
    lead = rules.lead_share * rules.period_seconds
    if watch.cold and watch.home == 0:
        lead = max(lead, min(lifetime, rules.longest_lead_seconds))
    return replace(
        watch,
        phase="lead",
        since=now,
        due=now.at + lead,
        home_rate=(now.decoded - since.decoded) / seconds,
        acceptance=_acceptance(since, now) if watch.home else watch.acceptance,
        home_running=now.running,
        lifetime=lifetime,
    )


def _compared(watch: Watch, since: Reading, now: Reading) -> Watch:
    rules = watch.rules
    alike = abs(now.running - watch.home_running) <= rules.unequal_windows * now.window
    if not alike:
        return _rest(watch, now, rules.period_seconds)
    rate = (now.decoded - since.decoded) / (now.at - since.at)
    acceptance = watch.acceptance if watch.home else _acceptance(since, now)
    pair = Pair(now.at, watch.home, watch.rival, watch.home_rate, rate, acceptance)
    pairs = (*watch.pairs, pair)
    about_rival = [one for one in pairs if one.rival == pair.rival][-rules.remembered :]
    if _is_faster(about_rival, rules):
        switch = Switch(now.at, watch.home, pair.rival, tuple(about_rival))
        watch = replace(watch, home=pair.rival, pairs=(), switches=(*watch.switches, switch))
        return _rest_after_asking(replace(watch, asked=0), now, looks_better=False)
    kept = [one for one in pairs if one.rival != pair.rival] + about_rival
    better = fmean(one.advantage for one in about_rival) > 0
    # Whoever looks better is asked again, the others take turns.
    watch = replace(watch, pairs=tuple(kept), asked=watch.asked + (not better))
    return _rest_after_asking(watch, now, better)


def _is_faster(pairs: Sequence[Pair], rules: Rules) -> bool:
    if len(pairs) < rules.pairs:
        return False
    gains = [pair.advantage for pair in pairs]
    error = max(stdev(gains) / math.sqrt(len(gains)), rules.error_floor)
    return fmean(gains) > max(rules.least_gain, rules.errors * error)


def _rest_after_asking(watch: Watch, now: Reading, looks_better: bool) -> Watch:
    rules = watch.rules
    lead = rules.lead_share * rules.period_seconds
    if watch.cold and watch.home == 0:
        lead = min(watch.lifetime, rules.longest_lead_seconds)
    asking = lead + rules.period_seconds
    gap = 2 * rules.period_seconds if looks_better else asking / rules.explore_share
    if watch.cold and watch.home:
        # Rows that ran without drafts have to run out before drafts are measured again.
        gap = max(gap, min(watch.lifetime, rules.longest_lead_seconds))
    return _rest(watch, now, gap)
