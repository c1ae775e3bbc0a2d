"""Keeps an eye on speculation while a worker generates, and changes its depth when it loses."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from pipeline.core.manifest import Provenance
from pipeline.core.money import MICROS_PER_SECOND
from pipeline.core.ports import Engine, Speculating
from pipeline.core.switching import Reading, Rules, Switch, Watch, advance, begun
from pipeline.feed import Feed
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")


class Steering:
    """The watch over one session's engines; without `rules`, none. One thread calls it.

    `cold` is said of drafters that lose their place in rows that ran without them, as those do
    that have a cache of their own.
    """

    def __init__(self, sheet: Timesheet, rules: Rules | None, cold: bool = True) -> None:
        self.switches: tuple[Switch, ...] = ()
        self._sheet = sheet
        self._rules = rules
        self._cold = cold
        self._engine: Engine | None = None
        self._watch: Watch | None = None
        self._due = math.inf

    def look(self, feed: Feed) -> None:
        """After every step. Raises `EngineDied`."""
        if feed.engine is not self._engine:
            self._take(feed.engine)
        now = self._now
        if self._watch is None or now < self._due:
            return
        feed.settle()
        made = feed.engine.metrics()
        reading = Reading(
            at=now,
            decoded=self._sheet.decoded,
            rows=feed.rows,
            proposed=made.draft_proposed,
            accepted=made.draft_accepted,
            running=feed.running,
            window=feed.engine.window,
        )
        before, self._watch = self._watch, advance(self._watch, reading)
        self._due = self._watch.due
        if len(self._watch.switches) > len(before.switches):
            self._tell(self._watch.switches[-1])
        if self._watch.depth != before.depth:
            self._speculate(self._watch.depth)

    def told(self, provenance: Provenance) -> Provenance:
        """The provenance with the switches made by now."""
        speculative = provenance.model.get("speculative")
        if not self.switches or not isinstance(speculative, dict):
            return provenance
        switches = [switch.to_json() for switch in self.switches]
        model = {**provenance.model, "speculative": {**speculative, "switches": switches}}
        return replace(provenance, model=model)

    @property
    def _now(self) -> float:
        """Seconds in which an engine worked: a store that is waited for is no engine's fault."""
        return self._sheet.buckets.useful / MICROS_PER_SECOND

    def _take(self, engine: Engine) -> None:
        home = None if self._watch is None else self._watch.home
        self._engine, self._watch, self._due = engine, None, math.inf
        deepest = engine.draft_depth if isinstance(engine, Speculating) else 0
        if self._rules is None or deepest == 0:
            return
        self._watch = begun(deepest, self._cold, self._now, self._rules)
        if home is not None and home in self._watch.arms and home != deepest:
            # What was learned of the rows holds for the engine that takes them over.
            self._watch = replace(self._watch, home=home)
            self._speculate(home)
        self._due = self._watch.due

    def _speculate(self, depth: int) -> None:
        assert isinstance(self._engine, Speculating)  # noqa: S101 - no watch over others
        self._engine.speculate(depth)

    def _tell(self, switch: Switch) -> None:
        self.switches = (*self.switches, switch)
        told = switch.to_json()
        log.warning(
            "speculation: from %d drafts a row to %d, which is %.1f%% faster by %d pairs",
            switch.before,
            switch.after,
            100 * told["gain"],
            len(switch.pairs),
        )
