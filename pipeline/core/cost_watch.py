"""What a thousand tokens cost, watched: when that is a jump, and what it comes from. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from statistics import median
from typing import Any, Literal

from pipeline.core.money import (
    MICROS_PER_SECOND,
    Buckets,
    decimal_of,
    sum_of,
)
from pipeline.core.session import Session
from pipeline.core.spans import charges

JUMP = Decimal("1.3")
"""So many times the median is a jump, unless what it is compared with varies as much itself."""
_MADS = Decimal("4.45")
"""Three standard deviations of noise that is normal, in median absolute deviations."""
_OFTEN = 1.2
"""So many times as many starts, or as long ones, are more than chance."""
PREFILL_SHARE = 0.1
"""What a prompt's token takes, of what a generated one does: only ranks causes, prices nothing."""

Cause = Literal[
    "dearer price",
    "dearer zone",
    "more preemptions",
    "slower starts",
    "more waiting",
    "acceptance fell",
    "longer prompts",
    "lower throughput",
]


@dataclass(frozen=True, slots=True)
class Usage:
    """What worker sessions used, summed up; the difference of two is what was used in between.

    `starts` is how many sessions began, `draft_*` and `prompt_tokens` belong to the `decoded`
    tokens, `zones` are microseconds by zone. `usd` None is an unknown price.
    """

    usd: Decimal | None = Decimal(0)
    buckets: Buckets = Buckets()
    starts: int = 0
    decoded: int = 0
    prompt_tokens: int = 0
    draft_proposed: int = 0
    draft_accepted: int = 0
    zones: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Usage) -> Usage:
        return self._with(other, 1)

    def __sub__(self, other: Usage) -> Usage:
        return self._with(other, -1)

    def _with(self, other: Usage, sign: int) -> Usage:
        usd = None if self.usd is None or other.usd is None else self.usd + sign * other.usd
        zones = Counter(self.zones)
        for zone, micros in other.zones.items():
            zones[zone] += sign * micros
        buckets = self.buckets + other.buckets if sign > 0 else self.buckets - other.buckets
        counts = {
            f.name: getattr(self, f.name) + sign * getattr(other, f.name)
            for f in fields(Usage)
            if f.name not in ("usd", "buckets", "zones")
        }
        return Usage(usd=usd, buckets=buckets, zones=dict(zones), **counts)

    @property
    def is_telling(self) -> bool:
        """Whether a cost per token can be had of it."""
        return bool(self.usd) and self.decoded > 0 and self.buckets.useful > 0

    @property
    def usd_per_1k(self) -> Decimal:
        """Of a telling one."""
        assert self.usd is not None  # noqa: S101 - `is_telling`
        return self.usd * 1_000 / self.decoded

    @property
    def usd_per_hour(self) -> float:
        hours = self.buckets.total / MICROS_PER_SECOND / 3_600
        return float(self.usd or 0) / hours if hours else 0.0

    @property
    def tokens_per_second(self) -> float:
        """While workers generate."""
        useful = self.buckets.useful
        return self.decoded * MICROS_PER_SECOND / useful if useful else 0.0

    @property
    def restarts_per_useful(self) -> float:
        """Seconds of starts, waste and drains for each that is useful."""
        b = self.buckets
        return (b.boot + b.load + b.wasted + b.drain) / b.useful

    @property
    def waits_per_useful(self) -> float:
        return self.buckets.idle / self.buckets.useful

    @property
    def starts_per_hour(self) -> float:
        hours = self.buckets.total / MICROS_PER_SECOND / 3_600
        return self.starts / hours if hours else 0.0

    @property
    def start_seconds(self) -> float:
        """What a start takes."""
        if not self.starts:
            return 0.0
        return (self.buckets.boot + self.buckets.load) / MICROS_PER_SECOND / self.starts

    @property
    def acceptance(self) -> float:
        return self.draft_accepted / self.draft_proposed if self.draft_proposed else 0.0

    @property
    def tokens_per_step(self) -> float:
        """What speculation makes of a row's step: 1 without it."""
        steps = self.decoded - self.draft_accepted
        return self.decoded / steps if steps > 0 else 1.0

    @property
    def prompt_per_token(self) -> float:
        return self.prompt_tokens / self.decoded

    @property
    def main_zone(self) -> str:
        return max(self.zones, key=lambda zone: self.zones[zone], default="unknown")


def usage_of_session(session: Session) -> Usage:
    bill = session.bill
    return Usage(
        bill.usd,
        bill.buckets,
        1,
        session.decoded,
        session.prompt_tokens,
        session.draft_proposed,
        session.draft_accepted,
        {session.node.zone: bill.buckets.total},
    )


def usage_of_run(manifest: Mapping[str, Any]) -> Usage:
    """From a run's manifest."""
    total, tokens = Usage(), manifest["tokens"]
    for worker in manifest["workers"]:
        buckets = sum((spent for _, spent in charges(worker)), Buckets())
        zones = {worker["node"]["zone"]: buckets.total}
        usd = sum_of([decimal_of(worker["cost"])])
        total += Usage(usd, buckets, 1, worker["decoded"], zones=zones)
    drafts = {name: tokens.get(name, 0) for name in ("draft_proposed", "draft_accepted")}
    return total + Usage(prompt_tokens=tokens["input"], **drafts)


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


def typical(history: Sequence[Usage]) -> Usage:
    """The one whose cost per token is the median, of two in the middle the cheaper."""
    ranked = sorted(history, key=lambda usage: usage.usd_per_1k)
    return ranked[(len(ranked) - 1) // 2]


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
            f"{before.prompt_per_token:.1f} tokens of prompt for each of output before, "
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
    """Of the seconds that are paid for and not useful. Who is preempted often also waits often: for
    leases of the dead to run out, with nothing else to do."""
    waits = before.waits_per_useful, now.waits_per_useful
    restarts = before.restarts_per_useful, now.restarts_per_useful
    idle = f"{waits[0]:.2f} s idle for each useful one before, {waits[1]:.2f} now"
    starts = (
        f"{before.starts_per_hour:.2f} starts a worker-hour before, {now.starts_per_hour:.2f} now"
    )
    by_restarts = (1 + restarts[1] + waits[0]) / (1 + restarts[0] + waits[0])
    by_waits = (1 + restarts[1] + waits[1]) / (1 + restarts[1] + waits[0])
    often = now.starts_per_hour > _OFTEN * before.starts_per_hour
    if often and by_restarts > 1 and by_waits > 1:
        return [Effect("more preemptions", by_restarts * by_waits, f"{starts}; {idle}")]
    waiting = Effect("more waiting", by_waits, idle)
    slower = now.start_seconds > _OFTEN * before.start_seconds > 0
    if slower and not often:
        took = f"{before.start_seconds:.0f} s to boot and load before, {now.start_seconds:.0f} now"
        return [Effect("slower starts", by_restarts, took), waiting]
    return [Effect("more preemptions", by_restarts, starts), waiting]
