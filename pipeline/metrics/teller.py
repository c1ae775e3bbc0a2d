"""Tells figures every few seconds, in a thread of its own, and never in a run's way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

from pipeline.core.errors import without_secrets
from pipeline.metrics.figures import Told
from pipeline.metrics.port import SINK_SECONDS, Sink

log = logging.getLogger("spotmill.metrics")


class Teller:
    """Asks `look` for an update every `seconds` and as its context is left; None is nothing to tell
    yet. `sinks` are opened in its thread, by name. Of each kind of failure one line is logged.

    Leaving takes no longer than `leave_seconds`: what was not told by then is not told, so that a
    later teller of the same subject has the last word.
    """

    def __init__(
        self,
        sinks: Mapping[str, Callable[[], Sink]],
        look: Callable[[], Told | None],
        seconds: float,
        *,
        forgets_itself: bool = False,
        leave_seconds: float = SINK_SECONDS,
    ) -> None:
        self._to_open = sinks
        self._look = look
        self._seconds = seconds
        self._forgets_itself = forgets_itself
        self._leave_seconds = leave_seconds
        self._over = threading.Event()
        self._abandoned = threading.Event()
        self._open: dict[str, Sink] = {}
        self._forgotten: dict[str, set[str]] = {}
        self._complained: set[tuple[str, type[Exception]]] = set()
        self._thread = threading.Thread(target=self._work, name="spotmill-metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(self._leave_seconds)
        self._abandoned.set()

    def _work(self) -> None:
        for name, opened in self._to_open.items():
            self._trying(name, partial(self._open_one, name, opened))
        while not self._over.wait(self._seconds):
            self._tell()
        self._tell(last=True)
        for name, sink in self._open.items():
            self._trying(name, sink.close)

    def _open_one(self, name: str, opened: Callable[[], Sink]) -> None:
        self._open[name] = opened()
        self._forgotten[name] = set()

    def _tell(self, last: bool = False) -> None:
        told: list[Told | None] = []
        self._trying("figures", lambda: told.append(self._look()))
        if not told or (update := told[0]) is None:
            return
        own = update.subject.worker_id
        gone = set(update.gone)
        if last and self._forgets_itself and own is not None:
            gone.add(own)
        for name, sink in self._open.items():
            self._telling(name, partial(sink.tell, update))
            for worker_id in sorted(gone - self._forgotten[name]):
                forget = partial(sink.forget, update.subject.run_id, worker_id)
                if not self._telling(name, forget):
                    # The next update tries again; a listener that hangs would do so for each.
                    break
                self._forgotten[name].add(worker_id)

    def _telling(self, name: str, action: Callable[[], None]) -> bool:
        """Whether it was told. Nothing is, once nobody waits for it any more."""
        return not self._abandoned.is_set() and self._trying(name, action)

    def _trying(self, name: str, action: Callable[[], None]) -> bool:
        """Whether it was done."""
        try:
            action()
        except Exception as problem:
            if (name, type(problem)) not in self._complained:
                self._complained.add((name, type(problem)))
                # Who asked for what is in some of them, and a key may be in that.
                words = without_secrets(" ".join(str(problem).split())) or type(problem).__name__
                log.warning("metrics, %s: %s (said once; the run goes on)", name, words)
            return False
        return True
