"""What a dearer token comes from: factors that multiply to the whole, the strongest named."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cost_watch import (
    JUMP,
    effects,
    is_unproductive_jump,
    jump_limit,
    likely_cause,
    may_be_chance,
    typical,
)
from pipeline.core.money import Buckets
from pipeline.core.usage import Usage, usage_of_run

SECOND = 1_000_000


def seconds(**spent: float) -> Buckets:
    return Buckets(**{name: round(value * SECOND) for name, value in spent.items()})


micros = st.integers(0, 10**11)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    decoded = draw(st.integers(1, 10**9))
    proposed = draw(st.integers(0, 10**9))
    buckets = Buckets(
        draw(micros), draw(micros), draw(st.integers(1, 10**11)), *(draw(micros) for _ in range(3))
    )
    return Usage(
        usd=draw(st.decimals("0.000001", "100000", places=6)),
        buckets=buckets,
        starts=draw(st.integers(0, 500)),
        decoded=decoded,
        prompt_tokens=draw(st.integers(0, 10**10)),
        draft_proposed=proposed,
        draft_accepted=draw(st.integers(0, min(proposed, decoded - 1))),
        zones={draw(st.sampled_from(["a", "b", "unknown"])): buckets.total},
    )


@given(usages(), usages())
def test_the_factors_multiply_to_the_ratio_of_the_costs(before: Usage, now: Usage) -> None:
    product = math.prod(effect.factor for effect in effects(before, now))
    assert product == pytest.approx(float(now.usd_per_1k / before.usd_per_1k), rel=1e-6)


@given(usages(), usages())
def test_the_likely_cause_is_the_strongest(before: Usage, now: Usage) -> None:
    found = effects(before, now)
    assert likely_cause(before, now) == found[0]
    assert [e.factor for e in found] == sorted((e.factor for e in found), reverse=True)
    if now.usd_per_1k > before.usd_per_1k:
        assert found[0].factor > 1 - 1e-9


@given(usages(), usages())
def test_what_is_added_can_be_taken_away(one: Usage, other: Usage) -> None:
    back = one + other - other
    assert replace(back, zones={}) == replace(one, zones={})
    assert {zone: n for zone, n in back.zones.items() if n} == {
        zone: n for zone, n in one.zones.items() if n
    }


NORMAL = Usage(
    usd=Decimal("10"),
    buckets=seconds(boot=100, load=900, useful=30_000, wasted=200, idle=1_000, drain=100),
    starts=8,
    decoded=60_000_000,
    prompt_tokens=90_000_000,
    draft_proposed=40_000_000,
    draft_accepted=28_000_000,
    zones={"us-east-1a": 32_300 * SECOND},
)


def slower(usage: Usage, factor: float) -> Usage:
    """The same tokens in more useful seconds, at the same price an hour."""
    useful = round(usage.buckets.useful * factor)
    buckets = replace(usage.buckets, useful=useful)
    return rebilled(replace(usage, buckets=buckets), usage)


def rebilled(usage: Usage, before: Usage) -> Usage:
    assert before.usd is not None
    return replace(usage, usd=before.usd * usage.buckets.total / before.buckets.total)


def dearer(usage: Usage, factor: float) -> Usage:
    assert usage.usd is not None
    return replace(usage, usd=usage.usd * Decimal(repr(factor)))


def elsewhere(usage: Usage, factor: float) -> Usage:
    return replace(dearer(usage, factor), zones={"us-east-1c": usage.buckets.total})


def preempted(usage: Usage, factor: float) -> Usage:
    more = usage.buckets.useful * (factor - 1)
    starts = max(9, round(more / (125 * SECOND)) + 8)
    buckets = usage.buckets + Buckets(load=round(more * 0.9), wasted=round(more * 0.1))
    return rebilled(replace(usage, buckets=buckets, starts=starts * 2), usage)


def slow_to_start(usage: Usage, factor: float) -> Usage:
    buckets = usage.buckets + Buckets(load=round(usage.buckets.useful * (factor - 1)))
    return rebilled(replace(usage, buckets=buckets), usage)


def wasting(usage: Usage, factor: float) -> Usage:
    """As a zombie does: what was useful until it heard that its shard is another's."""
    buckets = usage.buckets + Buckets(wasted=round(usage.buckets.useful * (factor - 1)))
    return rebilled(replace(usage, buckets=buckets), usage)


def waiting(usage: Usage, factor: float) -> Usage:
    buckets = usage.buckets + Buckets(idle=round(usage.buckets.useful * (factor - 1)))
    return rebilled(replace(usage, buckets=buckets), usage)


def unaccepted(usage: Usage, factor: float) -> Usage:
    """Each step gives fewer tokens, and so takes all the longer for as many."""
    steps = (usage.decoded - usage.draft_accepted) * min(factor, 1.8)
    accepted = round(usage.decoded - steps)
    return slower(replace(usage, draft_accepted=accepted), min(factor, 1.8))


def wordier(usage: Usage, factor: float) -> Usage:
    load = 1 + 0.1 * usage.prompt_per_token
    prompts = round((load * factor - 1) / 0.1 * usage.decoded)
    return slower(replace(usage, prompt_tokens=prompts), factor)


PLANTED: dict[str, Callable[[Usage, float], Usage]] = {
    "dearer price": dearer,
    "dearer zone": elsewhere,
    "more preemptions": preempted,
    "slower starts": slow_to_start,
    "more waste": wasting,
    "more waiting": waiting,
    "acceptance fell": unaccepted,
    "longer prompts": wordier,
    "lower throughput": slower,
}


@pytest.mark.parametrize("cause", PLANTED)
@given(factor=st.floats(1.4, 5.0), noise=st.floats(0.95, 1.05))
def test_a_planted_cause_is_named_with_its_figures(cause: str, factor: float, noise: float) -> None:
    now = slower(PLANTED[cause](NORMAL, factor), noise)
    found = likely_cause(NORMAL, now)
    assert found.cause == cause
    assert "before" in found.figures
    assert "now" in found.figures


def test_the_figures_are_those_of_the_cause() -> None:
    assert likely_cause(NORMAL, unaccepted(NORMAL, 1.5)).figures == (
        "0.70 of the drafts before, 0.30 now"
    )
    moved = likely_cause(NORMAL, elsewhere(NORMAL, 2.0)).figures
    assert moved == "1.1146 USD an hour in us-east-1a before, 2.2291 in us-east-1c now"


@given(usages(), usages())
def test_useful_time_alone_has_causes_of_its_own(before: Usage, now: Usage) -> None:
    found = effects(before.working, now.working)
    for effect in found:
        if effect.cause in ("more preemptions", "slower starts", "more waste", "more waiting"):
            assert effect.factor == 1.0
    product = math.prod(effect.factor for effect in found)
    ratio = now.working.usd_per_1k / before.working.usd_per_1k
    assert product == pytest.approx(float(ratio), rel=1e-6)


def test_longer_starts_are_no_more_preemptions_though_there_are_a_few_more() -> None:
    now = replace(slow_to_start(NORMAL, 2.0), starts=20)
    assert now.starts_per_hour > 1.25 * NORMAL.starts_per_hour
    assert likely_cause(NORMAL, now).figures == (
        "125 s to boot and load for each worker before, 1550 now"
    )


def test_who_is_preempted_drains_and_waits_for_it() -> None:
    more = preempted(NORMAL, 1.5)
    spent = more.buckets + seconds(drain=6_000, idle=9_000)
    found = effects(NORMAL, rebilled(replace(more, buckets=spent), NORMAL))
    assert found[0].cause == "more preemptions"
    assert found[0].factor > 1.8
    assert {e.cause for e in found if e.factor > 1.01} <= {"more preemptions", "more waste"}


# Starts come in ones.


def watched(hours: float, starts: int, start_seconds: float = 300.0, idle: float = 0.0) -> Usage:
    """One worker's, at a dollar an hour and a thousand tokens a useful second."""
    load = starts * start_seconds
    useful = hours * 3_600 - load - idle
    buckets = seconds(load=load, useful=useful, idle=idle)
    return Usage(Decimal(repr(hours)), buckets, starts, round(useful * 1_000))


def test_as_many_starts_as_chance_makes_are_no_jump_however_dear() -> None:
    nights = [watched(8.0, 3), watched(8.0, 2), watched(8.0, 4)]
    bad_hour = watched(1.0, 4)
    assert bad_hour.usd_per_1k > JUMP * nights[1].usd_per_1k
    assert not is_unproductive_jump(nights, bad_hour)
    assert is_unproductive_jump(nights, watched(1.0, 6))
    assert is_unproductive_jump(nights, watched(4.0, 16)), "as often, but for longer"


def test_more_starts_than_chance_makes_are_none_while_they_cost_little() -> None:
    nights = [watched(8.0, 24, start_seconds=5.0)]
    assert not may_be_chance(nights[0], watched(1.0, 30, start_seconds=5.0))
    assert not is_unproductive_jump(nights, watched(1.0, 30, start_seconds=5.0))


def test_what_is_waited_through_counts_as_far_as_it_is_more_than_usual() -> None:
    nights = watched(80.0, 30, idle=8 * 3_600.0)
    assert may_be_chance(nights, watched(24.0, 0, idle=2.4 * 3_600.0))
    assert not may_be_chance(nights, watched(24.0, 0, idle=9.6 * 3_600.0))


@given(st.integers(0, 40), st.integers(1, 400), st.floats(0.1, 24.0), st.floats(1.0, 400.0))
def test_chance_makes_no_more_for_fewer_starts_before(
    starts: int, before: int, hours: float, past_hours: float
) -> None:
    def so_many(hours: float, starts: int) -> Usage:
        return watched(hours + starts / 12, starts)

    now, past = so_many(hours, starts), so_many(past_hours, before)
    if may_be_chance(past, now):
        assert may_be_chance(so_many(past_hours, before + 5), now)
        assert starts == 0 or may_be_chance(past, so_many(hours, starts - 1))


def test_rates_are_told_from_a_thousand_workers_too() -> None:
    night = watched(8_000.0, 4_000)
    assert may_be_chance(night, watched(1_000.0, 560))
    assert not may_be_chance(night, watched(1_000.0, 640))


costs = st.lists(st.decimals("0.001", "10", places=6), min_size=1, max_size=12)


@given(costs)
def test_a_limit_is_never_less_than_a_jump_beyond_the_median(history: list[Decimal]) -> None:
    middle = typical([replace(NORMAL, usd=cost * NORMAL.decoded / 1_000) for cost in history])
    assert jump_limit(history) >= JUMP * middle.usd_per_1k * Decimal("0.999999")


def test_one_bad_run_in_the_past_moves_the_limit_little_and_noise_widens_it() -> None:
    calm = [Decimal(text) for text in ("1.00", "1.01", "0.99", "1.02", "9.00")]
    assert jump_limit(calm) == Decimal("1.3") * Decimal("1.01")
    noisy = [Decimal(text) for text in ("1.0", "1.4", "0.6", "1.5", "0.7")]
    assert jump_limit(noisy) > Decimal("2.5")


def test_what_a_run_used_is_in_its_manifest() -> None:
    row: dict[str, Any] = {
        "node": {"zone": "us-east-1a"},
        "seconds": {"boot": 1.0, "useful": 3.0},
        "price_per_hour": "3600",
        "on_demand_price_per_hour": None,
        "price_source": "made up",
        "cost": "4",
        "decoded": 70,
    }
    tokens = {"input": 500, "output": 60, "draft_proposed": 30, "draft_accepted": 20}
    usage = usage_of_run({"workers": [row, row], "tokens": tokens})
    assert usage == Usage(
        Decimal(8), seconds(boot=2, useful=6), 2, 140, 500, 30, 20, {"us-east-1a": 8 * SECOND}
    )
    copied = usage_of_run({"workers": [row, row], "tokens": tokens | {"copied": 30}})
    assert copied.prompt_tokens == 250, "sessions count what an engine was given"
    unknown = usage_of_run({"workers": [row, row | {"cost": None}], "tokens": tokens})
    assert unknown.usd is None
    assert not unknown.is_telling
