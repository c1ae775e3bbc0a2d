"""Whether speculation pays while it runs: readings of a worker's counters in, draft depths out.

A period at the depth in use, `home`, and one at a rival right after it make a pair; enough pairs
that agree make a switch. They are counted, not averaged: on a machine that others use, a period may
take three times as long as it should. What needs no pairs is that drafts which are hardly ever
accepted do not pay. Times are seconds in which the engine worked, whoever counts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, TypeAlias

from pipeline.core.speculation import tokens_a_step

Phase: TypeAlias = Literal["rest", "home", "lead", "rival"]


@dataclass(frozen=True, slots=True)
class Rules:
    """`period_seconds` is a measured period. A switch takes `pairs`, a median gain of `least_gain`,
    and so few pairs that say otherwise that chance alone would give no more in `chance` of cases.

    Of the time, `explore_share` goes to rivals that look worse, `doubtful_share` to those of which
    too few pairs are known and none is clear. Below `least_tokens` since a reading, nothing is
    concluded from acceptance.
    """

    period_seconds: float = 1.5
    explore_share: float = 0.02
    doubtful_share: float = 0.1
    clear_loss: float = 0.05
    pairs: int = 4
    remembered: int = 8
    least_gain: float = 0.01
    chance: float = 0.07
    least_tokens: int = 1_000
    lead_share: float = 0.25
    longest_lead_seconds: float = 60.0
    first_after_periods: int = 3
    glance_periods: int = 10
    acceptance_fall: float = 0.2
    unequal_windows: float = 0.2


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
    """From one depth to another: by the pairs that showed it to be faster, or, without any, since
    a row got no more than `tokens_a_step` with drafts."""

    at: float
    before: int
    after: int
    pairs: tuple[Pair, ...] = ()
    tokens_a_step: float | None = None

    def to_json(self) -> dict[str, Any]:
        gain = math.exp(median(pair.advantage for pair in self.pairs)) - 1 if self.pairs else None
        return {
            "after_engine_seconds": round(self.at, 1),
            "from_depth": self.before,
            "to_depth": self.after,
            "gain": None if gain is None else round(gain, 4),
            "tokens_a_step": self.tokens_a_step and round(self.tokens_a_step, 4),
            "pairs": [pair.to_json() for pair in self.pairs],
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known by now. `depth` is the one the engine is to have, and `due` is when the next
    reading is wanted; it rests `until` then, if acceptance does not fall before. It is `at_home`
    from when on its home is what it is. `cold` drafters lose their place in rows that ran without
    them."""

    home: int
    arms: tuple[int, ...]
    cold: bool
    since: Reading
    rules: Rules = Rules()
    at_home: float = 0.0
    due: float = 0.0
    until: float = 0.0
    phase: Phase = "rest"
    asked: int = 0
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


def begun(
    depth: int,
    cold: bool,
    now: Reading,
    rules: Rules = Rules(),
    acceptance: float | None = None,
) -> Watch:
    """A watch over an engine that was loaded with this depth, 1 or more.

    With the `acceptance` of a measurement, drafts are believed in until they are taken less often
    than there; without, they are soon compared.
    """
    half = {depth // 2} if depth >= 4 else set()
    arms = tuple(sorted({0, depth} | half))
    wait = rules.first_after_periods * rules.period_seconds
    if acceptance is not None:
        wait = (1 + rules.lead_share) * rules.period_seconds / rules.explore_share
    watch = Watch(depth, arms, cold, now, rules, at_home=now.at, acceptance=acceptance)
    return _rest(watch, now, wait)


def advance(watch: Watch, now: Reading) -> Watch:
    """The watch after a reading at or after `due`. Counters that went back, as after another
    engine took over, or a window that emptied, only make it rest."""
    since, rules = watch.since, watch.rules
    bring = _tokens_a_step(since, now, rules) if watch.depth else None
    if watch.phase in ("rest", "home") and bring is not None and bring < 1 + rules.least_gain:
        # A step with drafts takes longer than one without, so this is all that they can gain.
        return _switched(watch, now, Switch(now.at, watch.home, 0, tokens_a_step=bring))
    if watch.phase == "rest":
        if now.at >= watch.until or _acceptance_fell(watch, now):
            return replace(watch, phase="home", since=now, due=now.at + rules.period_seconds)
        return _rest(watch, now, watch.until - now.at)
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
    rules = watch.rules
    until = now.at + seconds
    # Soon where a depth is new, as drafts that nobody takes cost most when they are looked at late.
    glance = min(
        max(rules.period_seconds, now.at - watch.at_home),
        rules.glance_periods * rules.period_seconds,
    )
    due = min(until, now.at + glance)
    return replace(watch, phase="rest", since=now, due=due, until=until)


def _acceptance_fell(watch: Watch, now: Reading) -> bool:
    before = watch.acceptance
    share = _acceptance(watch.since, now)
    if before is None or share is None or watch.home == 0:
        return False
    return share < (1 - watch.rules.acceptance_fall) * before


def _tokens_a_step(since: Reading, now: Reading, rules: Rules) -> float | None:
    decoded, accepted = now.decoded - since.decoded, now.accepted - since.accepted
    enough = decoded >= rules.least_tokens and now.proposed > since.proposed and accepted >= 0
    return tokens_a_step(decoded, accepted) if enough else None


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
        return _switched(watch, now, Switch(now.at, watch.home, pair.rival, tuple(about_rival)))
    kept = [one for one in pairs if one.rival != pair.rival] + about_rival
    middle = median(one.advantage for one in about_rival)
    # Whoever looks better is asked again, the others take turns.
    watch = replace(watch, pairs=tuple(kept), asked=watch.asked + (middle <= 0))
    if middle > 0:
        return _rest_after_asking(watch, now, None)
    doubtful = len(about_rival) < rules.pairs and middle > -rules.clear_loss
    return _rest_after_asking(watch, now, rules.doubtful_share if doubtful else rules.explore_share)


def _switched(watch: Watch, now: Reading, switch: Switch) -> Watch:
    switches = (*watch.switches, switch)
    home = switch.after
    watch = replace(watch, home=home, at_home=now.at, asked=0, pairs=(), switches=switches)
    return _rest_after_asking(watch, now, watch.rules.explore_share)


def _is_faster(pairs: Sequence[Pair], rules: Rules) -> bool:
    """By a sign test: how likely so many better ones are where there is no difference."""
    better = sum(pair.advantage > 0 for pair in pairs)
    by_chance = sum(math.comb(len(pairs), n) for n in range(better, len(pairs) + 1))
    if len(pairs) < rules.pairs or by_chance / 2 ** len(pairs) > rules.chance:
        return False
    return median(pair.advantage for pair in pairs) > rules.least_gain


def _rest_after_asking(watch: Watch, now: Reading, share: float | None) -> Watch:
    """So long that asking takes this share of the time; at once where there is none."""
    rules = watch.rules
    lead = rules.lead_share * rules.period_seconds
    if watch.cold and watch.home == 0:
        lead = min(watch.lifetime, rules.longest_lead_seconds)
    asking = lead + rules.period_seconds
    gap = 2 * rules.period_seconds if share is None else asking / share
    if watch.cold and watch.home:
        # Rows that ran without drafts have to run out before drafts are measured again.
        gap = max(gap, min(watch.lifetime, rules.longest_lead_seconds))
    return _rest(watch, now, gap)
