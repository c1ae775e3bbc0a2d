"""The engines of one worker session: started, lost, proved and replaced (decision 011)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.beats import Beats
from pipeline.core.errors import EngineDied, EngineFailed
from pipeline.core.ports import Engine
from pipeline.core.rows import Request, Sampling, TextPrompt
from pipeline.core.session import EngineStart
from pipeline.feed import Feed
from pipeline.repricing import Repricing
from pipeline.timesheet import Timesheet

log = logging.getLogger("spotmill.worker")

_SPARE_DEATHS = 3
"""Halving a window until one row is left, twice alone, takes two deaths more than its size has
bits; more than that without a finished row is no row's fault."""


class EngineLife:
    """Loads the engine that a worker has now. One thread calls it."""

    def __init__(
        self,
        load_engine: Callable[[bool], Engine],
        engine_start: Callable[[], EngineStart | None],
        beats: Beats,
        sheet: Timesheet,
        repricing: Repricing,
    ) -> None:
        self._load_engine = load_engine
        self._engine_start = engine_start
        self._beats = beats
        self._sheet = sheet
        self._repricing = repricing
        self._engine: Engine | None = None
        self._deaths = 0
        self._progress = (-1, 0)

    def start(self, isolated: bool) -> Engine:
        """The session's first engine. Raises `EngineFailed`, and `EngineDied` when it is told to
        be `isolated`, which is to be seen at work before rows are blamed for its death."""
        engine = self._load(own_process=isolated)
        if isolated:
            self._sheet.count_unshared(_prove(engine))
        return engine

    def isolate(self, feed: Feed) -> None:
        """Go on in an engine whose death this process would survive."""
        if self._engine is None or self._engine.own_process:
            return
        log.warning("workers of a shard in hand vanish: its engine gets its own process")
        feed.leave_engine()
        self.replace(feed)

    def go_plain(self, feed: Feed, load_plain: Callable[[bool], Engine]) -> None:
        """Go on in an engine that `load_plain` loads, now and whenever another is needed."""
        self._load_engine = load_plain
        feed.leave_engine()
        self.replace(feed)

    def bury(self, feed: Feed, death: EngineDied) -> None:
        """Take back and suspect what the dead engine had. Raises when that happens too often."""
        # Whose shard is lost to another worker halves the next shard's rows from the beginning.
        progress = (feed.rows, len(feed.dropped))
        self._deaths = 1 if progress != self._progress else self._deaths + 1
        self._progress = progress
        log.error("with %d rows in it, %s", feed.running, death)
        feed.lose_engine(death.why or death.what)
        assert self._engine is not None  # noqa: S101 - it has just died
        if self._deaths > self._engine.window.bit_length() + _SPARE_DEATHS:
            raise EngineDied(
                f"the engine died {self._deaths} times, and not one row was finished in between",
                why=death.why or death.what,
                hint="see the worker's log; another worker goes on with the suspects",
            ) from death

    def close(self) -> None:
        """Close the engine there is, if any; more than once does no harm."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def replace(self, feed: Feed) -> None:
        """Start another engine and see it work. Raises `EngineDied` when this node gives none."""
        self._beats.loading()
        self.close()
        try:
            engine = self._load(own_process=True)
        except EngineFailed as problem:
            raise EngineDied(
                "the engine could not be started again",
                why=problem.why or problem.what,
                hint="the node may have gone bad; workers on other nodes go on",
            ) from problem
        feed.take_engine(engine)
        # Paid for, and of no row: the run's manifest counts it as wasted.
        self._sheet.count_unshared(_prove(engine))

    def _load(self, own_process: bool) -> Engine:
        self._beats.loading()
        try:
            engine = self._load_engine(own_process)
        finally:
            self._repricing.loaded(self._beats.feed)
        self._engine = engine
        self._beats.engine_start = self._engine_start()
        self._beats.loaded()
        return engine


def _prove(engine: Engine) -> int:
    """One token from a harmless prompt: what dies after this, dies of the rows. `EngineDied` if
    not. Returns the tokens that this took."""
    prompt = engine.encode(TextPrompt("Hello"))
    engine.submit(Request("control", prompt, Sampling(max_tokens=1)))
    while not (answers := engine.step()):
        pass
    return sum(len(answer.token_ids) for answer in answers)
