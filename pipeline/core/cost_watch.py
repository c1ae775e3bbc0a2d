"""What a thousand tokens cost, watched: when that is a jump, and what it comes from. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import exp, inf, lgamma, log
from statistics import median
from typing import Literal

from pipeline.core.money import MICROS_PER_SECOND
from pipeline.core.usage import Usage

JUMP = Decimal("1.3")
"""So many times the median is a jump, unless what it is compared with varies as much itself."""
_MADS = Decimal("4.45")
"""Three standard deviations of noise that is normal, in median absolute deviations."""
_CHANCE = 1e-3
"""What happens less often than this is not put down to chance."""
_OFTEN = 1.2
"""So many times as many starts are more than before."""
TOLD_FACTOR = 1.1
"""From which on a cause is worth a word."""
PREFILL_SHARE = 0.1
"""What a prompt's token takes, of what a generated one does: only ranks causes, prices nothing."""

Cause = Literal[
    "dearer price",
    "dearer zone",
    "more preemptions",
    "slower starts",
    "more waste",
    "more waiting",
    "acceptance fell",
    "longer prompts",
    "lower throughput",
]


# When it is a jump.


def jump_limit(history: Sequence[Decimal]) -> Decimal:
    """What a cost per token has to exceed to be a jump, by those of earlier runs or windows.

    1.3 times their median; more where they vary more: their median and three of the deviations
    that noise as wide as theirs would have. Medians, so that a bad run in the past, or two, move it
    little.
    """
    middle = median(history)
    spread = median([abs(cost - middle) for cost in history])
    return max(JUMP * middle, middle + _MADS * spread)


def is_jump(past: Sequence[Usage], now: Usage) -> bool:
    """Whether a token costs more now than it may. All have to be telling."""
    return now.usd_per_1k > jump_limit([usage.usd_per_1k for usage in past])


def is_unproductive_jump(past: Sequence[Usage], now: Usage) -> bool:
    """Whether it does because of starts, waste and waits, and more of them than chance makes."""
    before = sum(past, Usage())
    grown = now.paid_per_useful / before.paid_per_useful
    return grown >= TOLD_FACTOR and is_jump(past, now) and not may_be_chance(before, now)


def typical(history: Sequence[Usage]) -> Usage:
    """The one whose cost per token is the median, of two in the middle the cheaper."""
    ranked = sorted(history, key=lambda usage: usage.usd_per_1k)
    return ranked[(len(ranked) - 1) // 2]


def may_be_chance(before: Usage, now: Usage) -> bool:
    """Whether seconds that were not useful may be as many as `now` without a reason, going by what
    was `before`. Both have to be telling.

    Preemptions come in ones, rarely, and each takes minutes: two within an hour make it a dear one,
    and mean nothing. So seconds are counted in starts as long as those before; those that were
    wasted or waited through, as far as they are more than usual for the useful ones. Starts are
    taken to come by chance, at a rate known from `before`: so many follow a negative binomial
    distribution (Poisson, its rate's posterior a gamma distribution from a flat prior).
    """
    other = _other_seconds(now)
    usual = _other_seconds(before) * now.buckets.useful / before.buckets.useful
    seconds = now.load_seconds + max(0.0, other - usual)
    if not before.start_seconds:
        return seconds == 0
    share = now.buckets.total / (now.buckets.total + before.buckets.total)
    return _may_come(int(seconds / before.start_seconds), before.starts, share)


def _other_seconds(usage: Usage) -> float:
    spent = usage.buckets
    return (spent.wasted + spent.drain + spent.idle) / MICROS_PER_SECOND


def _may_come(count: int, seen: int, share: float) -> bool:
    """Whether so many events or more may come in this `share` of the time, when so many were `seen`
    in the rest of it."""
    fewer, shape = 0.0, seen + 1
    constant = shape * log(1 - share) - lgamma(shape)
    for n in range(count):
        fewer += exp(constant + lgamma(shape + n) - lgamma(n + 1) + n * log(share))
        if fewer > 1 - _CHANCE:
            return False
    return True


# What it comes from.


@dataclass(frozen=True, slots=True)
class Effect:
    """One cause, the `factor` by which it alone made a token dearer, and its figures in words."""

    cause: Cause
    factor: float
    figures: str

    def __str__(self) -> str:
        return f"{self.cause} (x {self.factor:.2f}: {self.figures})"


def effects(before: Usage, now: Usage) -> list[Effect]:
    """Why a token costs what it does now, the strongest cause first. Both have to be telling.

    A token's cost is price per second x seconds paid per useful second / tokens per useful second;
    each part is divided again, so that the factors multiply to the ratio of the costs.
    """
    speed = before.tokens_per_second / now.tokens_per_second
    accepted = before.tokens_per_step / now.tokens_per_step
    prompts = (1 + PREFILL_SHARE * now.prompt_per_token) / (
        1 + PREFILL_SHARE * before.prompt_per_token
    )
    found = [
        _price_effect(before, now),
        *_unproductive_effects(before, now),
        Effect(
            "acceptance fell",
            accepted,
            f"{before.acceptance:.2f} of the drafts before, {now.acceptance:.2f} now",
        ),
        Effect(
            "longer prompts",
            prompts,
            f"{before.prompt_per_token:.1f} tokens of prompt for each generated one before, "
            f"{now.prompt_per_token:.1f} now",
        ),
        Effect(
            "lower throughput",
            speed / (accepted * prompts),
            f"{before.tokens_per_second:.0f} tokens a useful second before, "
            f"{now.tokens_per_second:.0f} now",
        ),
    ]
    return sorted(found, key=lambda effect: -effect.factor)


def likely_cause(before: Usage, now: Usage) -> Effect:
    """What made a token dearer more than anything else. Both have to be telling."""
    return effects(before, now)[0]


def _price_effect(before: Usage, now: Usage) -> Effect:
    zones = before.main_zone, now.main_zone
    moved = zones[0] != zones[1] and "unknown" not in zones
    where = f" in {zones[0]}", f" in {zones[1]}"
    return Effect(
        "dearer zone" if moved else "dearer price",
        now.usd_per_hour / before.usd_per_hour,
        f"{before.usd_per_hour:.4f} USD an hour{where[0] if moved else ''} before, "
        f"{now.usd_per_hour:.4f}{where[1] if moved else ''} now",
    )


def _unproductive_effects(before: Usage, now: Usage) -> list[Effect]:
    """Of the seconds that are paid for and not useful, by what they went into.

    Who is preempted often also drains often, and waits: for leases of the dead to run out, with
    nothing else to do.
    """
    b, n = before.buckets, now.buckets
    starting, draining, wasting, waiting = _steps(
        [
            ((old / b.useful), (new / n.useful))
            for old, new in (
                (b.boot + b.load, n.boot + n.load),
                (b.drain, n.drain),
                (b.wasted, n.wasted),
                (b.idle, n.idle),
            )
        ]
    )
    more_often = _ratio(now.starts_per_hour, before.starts_per_hour)
    if more_often > _OFTEN and more_often >= _ratio(now.start_seconds, before.start_seconds):
        starting, draining = starting * max(1.0, draining), min(1.0, draining)
        starting, waiting = starting * max(1.0, waiting), min(1.0, waiting)
        figures = "{:.2f} starts a worker-hour before, {:.2f} now"
        rates = before.starts_per_hour, now.starts_per_hour
        started = Effect("more preemptions", starting, figures.format(*rates))
    else:
        figures = "{:.0f} s to boot and load for each worker before, {:.0f} now"
        lengths = before.start_seconds, now.start_seconds
        started = Effect("slower starts", starting, figures.format(*lengths))
    per_useful = "{:.2f} s {} for each useful one before, {:.2f} now".format
    lost = (b.wasted + b.drain) / b.useful, (n.wasted + n.drain) / n.useful
    return [
        started,
        Effect("more waste", wasting * draining, per_useful(lost[0], "wasted or drained", lost[1])),
        Effect("more waiting", waiting, per_useful(b.idle / b.useful, "idle", n.idle / n.useful)),
    ]


def _steps(levels: Sequence[tuple[float, float]]) -> list[float]:
    """By how much a useful second and all that is paid with it grow as one part after the other
    goes from its first level to its second."""
    now = 1 + sum(old for old, _ in levels)
    steps = []
    for old, new in levels:
        before, now = now, now + new - old
        steps.append(now / before)
    return steps


def _ratio(now: float, before: float) -> float:
    if before:
        return now / before
    return inf if now else 1.0
