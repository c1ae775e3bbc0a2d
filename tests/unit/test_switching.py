"""Speculation is switched when it loses, and left alone when it pays, through noise and change."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.switching import Reading, Rules, Watch, advance, begun

RULES = Rules()
Speed = Callable[[int, float], float]
"""Tokens a second at a depth, by the second."""


class Run:
    """An engine whose speed is known, and the watch over it: seconds at each depth, tokens."""

    def __init__(self, depth: int, speed: Speed, cold: bool = False, taken: float = 0.8) -> None:
        self.speed = speed
        self.taken = taken
        self.at = 0.0
        self.reading = Reading(0.0, 0, 0, 0, 0, 256, 320)
        self.watch = begun(depth, cold, self.reading, RULES)
        self.seconds: dict[int, float] = {}
        self.tokens = 0.0

    def go(self, seconds: float, step: float = 0.1) -> Run:
        until = self.at + seconds
        while self.at < until:
            depth = self.watch.depth
            made = self.speed(depth, self.at) * step
            self.at += step
            self.tokens += made
            self.seconds[depth] = self.seconds.get(depth, 0.0) + step
            proposed = made * depth
            self.reading = replace(
                self.reading,
                at=self.at,
                decoded=self.reading.decoded + round(made),
                rows=self.reading.rows + round(made / 100),
                proposed=self.reading.proposed + round(proposed),
                accepted=self.reading.accepted + round(proposed * self.taken / (depth + 1)),
            )
            if self.at >= self.watch.due:
                self.watch = advance(self.watch, self.reading)
        return self


def steady(off: float, on: float) -> Speed:
    return lambda depth, _: on if depth else off


def noisy(off: float, on: float, spread: float, seed: int) -> Speed:
    dice = random.Random(seed)
    return lambda depth, _: (on if depth else off) * math.exp(dice.gauss(0, spread))


@pytest.mark.parametrize("cold", [False, True])
def test_what_loses_is_turned_off_within_a_minute(cold: bool) -> None:
    run = Run(3, steady(off=5000, on=3500), cold).go(60)
    assert run.watch.home == 0
    [switch] = run.watch.switches
    assert (switch.before, switch.after) == (3, 0)
    assert len(switch.pairs) >= RULES.pairs
    assert switch.to_json()["gain"] == pytest.approx(5000 / 3500 - 1, rel=0.05)


@pytest.mark.parametrize("cold", [False, True])
def test_what_pays_stays_on_and_asking_costs_little(cold: bool) -> None:
    run = Run(3, steady(off=5000, on=5500), cold).go(3600)
    assert run.watch.home == 3
    assert run.seconds[0] / 3600 < 1.5 * RULES.explore_share
    assert run.tokens / (5500 * 3600) > 0.995


def test_a_workload_that_changes_is_followed() -> None:
    def speed(depth: int, at: float) -> float:
        pays = at < 300 or at > 3000
        return (6000 if pays else 4000) if depth else 5000

    run = Run(3, speed)
    assert run.go(290).watch.home == 3
    assert run.go(1500).watch.home == 0
    assert run.go(7200).watch.home == 3
    assert [switch.after for switch in run.watch.switches] == [0, 3]


def test_a_fall_of_acceptance_asks_at_once() -> None:
    run = Run(3, steady(off=5000, on=5500)).go(40)
    assert run.watch.phase == "rest"
    run.taken = 0.1
    soon = RULES.glance_periods * RULES.period_seconds
    before = run.watch.until - run.at
    assert before > 2 * soon
    pairs = len(run.watch.pairs)
    run.go(soon + 4 * RULES.period_seconds)
    assert len(run.watch.pairs) == pairs + 1


def test_what_was_measured_is_believed_until_less_is_taken() -> None:
    run = Run(3, steady(off=5000, on=5500))
    run.watch = begun(3, False, run.reading, RULES, acceptance=0.2)
    assert run.go(60).seconds.keys() == {3}
    stale = Run(3, steady(off=5000, on=4000), taken=0.5)
    stale.watch = begun(3, False, stale.reading, RULES, acceptance=0.8)
    assert stale.go(60).watch.home == 0


@pytest.mark.parametrize("told", [None, 0.88])
def test_drafts_that_are_never_taken_are_made_no_more_at_once(told: float | None) -> None:
    """However the machine stutters, and whatever its profile says: a step with drafts is no faster
    than one without."""
    run = Run(6, noisy(5000, 4000, 1.0, seed=3), taken=0.002)
    run.watch = begun(6, False, run.reading, RULES, told)
    run.go(2)
    [switch] = run.watch.switches
    assert (switch.after, switch.pairs) == (0, ())
    assert switch.tokens_a_step == pytest.approx(1.0, abs=0.01)
    assert switch.to_json()["gain"] is None


def test_one_long_pause_decides_nothing() -> None:
    """A second in which others had the machine makes one period three times as long."""

    def speed(depth: int, at: float) -> float:
        slow = 9.0 < at < 12.0
        return (3500 if depth else 5000) / (3 if slow else 1)

    run = Run(3, speed).go(120)
    assert [switch.after for switch in run.watch.switches] == [0]


def test_half_as_deep_may_be_better_than_both() -> None:
    speeds = {0: 5000.0, 4: 5500.0, 8: 5100.0}
    run = Run(8, lambda depth, _: speeds[depth]).go(3600)
    assert run.watch.home == 4


def test_a_window_that_empties_proves_nothing() -> None:
    run = Run(3, steady(off=5000, on=3500)).go(5)
    run.reading = replace(run.reading, running=5)
    before = len(run.watch.pairs)
    run.watch = advance(replace(run.watch, due=0.0), run.reading)
    run.reading = replace(run.reading, running=256)
    run.go(1)
    assert len(run.watch.pairs) <= before + 1
    assert run.watch.depth in run.watch.arms


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.7, 0.9, 1.1, 1.3]), st.booleans())
def test_auto_is_near_the_better_of_both_through_noise(seed: int, gain: float, cold: bool) -> None:
    """The figure to reach: 0.98 of the better of always and never, over an hour."""
    speed = noisy(5000, 5000 * gain, 0.3, seed)
    run = Run(3, speed, cold).go(3600)
    assert run.tokens / 3600 > 0.98 * 5000 * max(1.0, gain) * math.exp(0.3**2 / 2) * 0.99


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_noise_alone_switches_next_to_nothing(seed: int) -> None:
    run = Run(3, noisy(5000, 5000, 0.3, seed)).go(1800)
    assert len(run.watch.switches) <= 3


counts = st.integers(-5, 5000)
readings = st.lists(st.tuples(st.floats(0, 30), counts, counts, st.integers(0, 320)), max_size=60)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 32), st.booleans(), readings)
def test_whatever_is_read_the_depth_is_one_that_may_be(
    depth: int, cold: bool, found: list[tuple[float, int, int, int]]
) -> None:
    """Counters may go back, as when another engine took over, and time may stand still."""
    watch: Watch = begun(depth, cold, Reading(0.0, 0, 0, 0, 0, 256, 320), RULES)
    at = decoded = drafts = 0.0
    for seconds, tokens, proposed, running in found:
        at, decoded, drafts = at + seconds, decoded + tokens, drafts + proposed
        now = Reading(
            at, int(decoded), int(decoded // 9), int(drafts), int(drafts // 2), running, 320
        )
        watch = advance(watch, now)
        assert watch.depth in watch.arms
        assert 0 <= watch.depth <= depth
        assert watch.due >= at
