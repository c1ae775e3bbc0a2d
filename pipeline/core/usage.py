"""What worker sessions used: dollars, seconds and tokens, to be compared with what others did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any

from pipeline.core.money import MICROS_PER_SECOND, Buckets, decimal_of, sum_of
from pipeline.core.session import Session
from pipeline.core.spans import Span, all_seconds, charges, cost_of


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
        paid = self.usd is not None and self.usd > 0
        return paid and self.decoded > 0 and 0 < self.buckets.useful <= self.buckets.total

    @property
    def working(self) -> Usage:
        """Its useful seconds alone, at the mean price of all: as if no worker ever started,
        wasted or waited. Of a telling one."""
        assert self.usd is not None  # noqa: S101 - `is_telling`
        useful = self.buckets.useful
        usd = self.usd * useful / self.buckets.total
        return replace(self, usd=usd, buckets=Buckets(useful=useful), starts=0)

    @property
    def usd_per_1k(self) -> Decimal:
        """Of a telling one."""
        assert self.usd is not None  # noqa: S101 - `is_telling`
        return self.usd * 1_000 / self.decoded

    @property
    def usd_per_hour(self) -> float:
        return float(self.usd or 0) / self._hours if self._hours else 0.0

    @property
    def tokens_per_second(self) -> float:
        """While workers generate."""
        useful = self.buckets.useful
        return self.decoded * MICROS_PER_SECOND / useful if useful else 0.0

    @property
    def paid_per_useful(self) -> float:
        """Seconds that are paid for with each useful one, itself included. Of a telling one."""
        return self.buckets.total / self.buckets.useful

    @property
    def starts_per_hour(self) -> float:
        """In a worker's hour."""
        return self.starts / self._hours if self._hours else 0.0

    @property
    def load_seconds(self) -> float:
        """Of all its boots and loads."""
        return (self.buckets.boot + self.buckets.load) / MICROS_PER_SECOND

    @property
    def start_seconds(self) -> float:
        """What a start takes."""
        return self.load_seconds / self.starts if self.starts else 0.0

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

    @property
    def _hours(self) -> float:
        return self.buckets.total / MICROS_PER_SECOND / 3_600


def usage_of_session(session: Session) -> Usage:
    buckets = all_seconds(session.proof)
    return Usage(
        cost_of(session.proof),
        buckets,
        1,
        session.decoded,
        session.prompt_tokens,
        session.draft_proposed,
        session.draft_accepted,
        {session.node.zone: buckets.total},
    )


def start_of_session(session: Session) -> Usage:
    """The part of it that was boot and load."""
    spans = [
        Span(price, Buckets(boot=spent.boot, load=spent.load)) for price, spent in session.proof
    ]
    buckets = all_seconds(spans)
    return Usage(cost_of(spans), buckets, 1, zones={session.node.zone: buckets.total})


def usage_of_run(manifest: Mapping[str, Any]) -> Usage:
    """From a run's manifest."""
    total, tokens = Usage(), manifest["tokens"]
    for worker in manifest["workers"]:
        buckets = sum((spent for _, spent in charges(worker)), Buckets())
        zones = {worker["node"]["zone"]: buckets.total}
        usd = sum_of([decimal_of(worker["cost"])])
        total += Usage(usd, buckets, 1, worker["decoded"], zones=zones)
    drafts = {name: tokens.get(name, 0) for name in ("draft_proposed", "draft_accepted")}
    return total + Usage(prompt_tokens=_given(tokens), **drafts)


def _given(tokens: Mapping[str, int]) -> int:
    """Prompt tokens that an engine was given, which is what sessions count. A copied answer's are
    in a run's tokens, but were given to none; they are as many as its answer's share of answers."""
    output = tokens["output"]
    kept = output - tokens.get("copied", 0)
    return tokens["input"] * kept // output if output else tokens["input"]
