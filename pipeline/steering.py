"""Keeps an eye on speculation while a worker generates, and changes its depth when it loses."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pipeline.core.manifest import Provenance
from pipeline.core.money import MICROS_PER_SECOND
from pipeline.core.ports import Engine, Speculating
from pipeline.core.speculation import Expectation, is_worth_reloading
from pipeline.core.switching import Reading, Rules, Watch, advance, begun
from pipeline.feed import Feed
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")

_GLANCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Watching:
    """How a session's speculation is watched.

    `cold` is said of drafters that lose their place in rows that ran without them, as those do that
    have a cache of their own. `acceptance` is the share of drafts that were taken when they were
    measured. Where the engine cannot be switched, what is `expected` of it says when `load_plain`,
    an engine without drafts, would be faster.
    """

    rules: Rules = field(default_factory=Rules)
    cold: bool = True
    acceptance: float | None = None
    expected: Expectation | None = None
    load_plain: Callable[[bool], Engine] | None = None


class _Told(Protocol):
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Reloading:
    """An engine that lost, and could not be switched, is to be replaced by one without drafts."""

    after_engine_seconds: float
    gain: float
    expected: Expectation
    seconds_left: float
    load_seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "after_engine_seconds": round(self.after_engine_seconds, 1),
            "to_depth": 0,
            "reloaded": True,
            "estimated_gain_of_drafts": round(self.gain - 1, 4),
            "measured_gain_of_drafts": round(self.expected.gain - 1, 4),
            "tokens_a_step_when_measured": round(self.expected.tokens_a_step, 4),
            "seconds_of_work_left": round(self.seconds_left, 1),
            "load_seconds": round(self.load_seconds, 1),
        }


class Steering:
    """The watch over one session's engines; without `watching`, none. One thread calls it."""

    def __init__(self, sheet: Timesheet, watching: Watching | None) -> None:
        self.wants_plain = False
        self._switches: tuple[_Told, ...] = ()
        self._sheet = sheet
        self._watching = watching
        self._engine: Engine | None = None
        self._watch: Watch | None = None
        self._since: Reading | None = None
        self._due = math.inf

    def look(self, feed: Feed) -> None:
        """After every step. Raises `EngineDied`. `wants_plain` may have become true then."""
        if feed.engine is not self._engine:
            self._take(feed)
        if self._now < self._due:
            return
        reading = self._read(feed)
        if self._watch is None:
            self._consider_reloading(feed, reading)
            return
        before, self._watch = self._watch, advance(self._watch, reading)
        self._due = self._watch.due
        for switch in self._watch.switches[len(before.switches) :]:
            self._switches = (*self._switches, switch)
            log.warning(
                "speculation: from %d drafts a row to %d: %s",
                switch.before,
                switch.after,
                f"faster by {len(switch.pairs)} pairs of periods"
                if switch.pairs
                else f"with drafts, a row got {switch.tokens_a_step:.3f} tokens a step",
            )
        if self._watch.depth != before.depth:
            self._speculate(self._watch.depth)

    def plain_loader(self) -> Callable[[bool], Engine]:
        """For the engine that `wants_plain` asked for: from here on, there is nothing to watch."""
        assert self._watching is not None and self._watching.load_plain is not None  # noqa: S101
        load_plain = self._watching.load_plain
        self.wants_plain, self._watching = False, None
        return load_plain

    def told(self, provenance: Provenance) -> Provenance:
        """The provenance with the switches made by now."""
        speculative = provenance.model.get("speculative")
        if not self._switches or not isinstance(speculative, dict):
            return provenance
        switches = [switch.to_json() for switch in self._switches]
        model = {**provenance.model, "speculative": {**speculative, "switches": switches}}
        return replace(provenance, model=model)

    @property
    def _now(self) -> float:
        """Seconds in which an engine worked: a store that is waited for is no engine's fault."""
        return self._sheet.buckets.useful / MICROS_PER_SECOND

    def _read(self, feed: Feed) -> Reading:
        feed.settle()
        made = feed.engine.metrics()
        return Reading(
            at=self._now,
            decoded=self._sheet.decoded,
            rows=feed.rows,
            proposed=made.draft_proposed,
            accepted=made.draft_accepted,
            running=feed.running,
            window=feed.engine.window,
        )

    def _take(self, feed: Feed) -> None:
        home = None if self._watch is None else self._watch.home
        engine, watching = feed.engine, self._watching
        self._engine, self._watch, self._since, self._due = engine, None, None, math.inf
        if watching is None:
            return
        deepest = engine.draft_depth if isinstance(engine, Speculating) else 0
        if deepest == 0:
            self._since = self._read(feed)
            self._due = self._now + _GLANCE_SECONDS
            return
        first = self._read(feed)
        self._watch = begun(deepest, watching.cold, first, watching.rules, watching.acceptance)
        if home is not None and home in self._watch.arms and home != deepest:
            # What was learned of the rows holds for the engine that takes them over.
            self._watch = replace(self._watch, home=home)
            self._speculate(home)
        self._due = self._watch.due

    def _consider_reloading(self, feed: Feed, now: Reading) -> None:
        since, watching = self._since, self._watching
        self._since, self._due = now, now.at + _GLANCE_SECONDS
        if since is None or watching is None or not (watching.expected and watching.load_plain):
            return
        decoded, rows = now.decoded - since.decoded, now.rows - since.rows
        gain = watching.expected.gain_now(decoded, now.accepted - since.accepted)
        if gain is None or rows <= 0:
            return
        # Of the shards in hand alone, so less than there may be.
        left = sum(shard.to_submit + len(shard.running) for shard in feed.held.values())
        seconds_left = left * (now.at - since.at) / rows
        load_seconds = self._sheet.buckets.load / MICROS_PER_SECOND
        if is_worth_reloading(gain, seconds_left, load_seconds):
            told = Reloading(now.at, gain, watching.expected, seconds_left, load_seconds)
            self._switches = (*self._switches, told)
            log.warning(
                "speculation is %.1f%% slower than none by its acceptance: the engine is loaded "
                "without it",
                100 * (1 - gain),
            )
            self.wants_plain, self._due = True, math.inf

    def _speculate(self, depth: int) -> None:
        assert isinstance(self._engine, Speculating)  # noqa: S101 - no watch over others
        self._engine.speculate(depth)
