"""Notices that an engine has stopped: that it is asked for tokens, and none come."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NoReturn

log = logging.getLogger("spotmill.engine")

LOOKS_PER_HANG = 10


@dataclass(slots=True)
class Stall:
    """How long an engine has been stepped without any progress, as seen in looks now and then.

    It is stalled when a step blocks, and when steps return with nothing; not while nobody steps,
    nor while this process itself does not run: a gap between two looks counts as two at most.
    """

    hang_seconds: float
    _pulse: int = 0
    _mark: Hashable | None = None
    _stepping: bool = False
    _seconds: float = 0.0

    @property
    def look_seconds(self) -> float:
        return self.hang_seconds / LOOKS_PER_HANG

    def look(self, elapsed: float, pulse: int, mark: Hashable | None) -> bool:
        """Whether it hangs. `pulse` is odd within a step and grows with each; `mark` changes with
        every token, and is None when there is nothing to do. `elapsed` seconds since the last look.
        """
        stepping = pulse % 2 == 1 or pulse != self._pulse
        if mark is not None and mark == self._mark and stepping and self._stepping:
            self._seconds += min(elapsed, 2 * self.look_seconds)
        else:
            self._seconds = 0.0
        self._pulse, self._mark, self._stepping = pulse, mark, stepping
        return self._seconds >= self.hang_seconds


class Watchdog:
    """A thread that looks ten times per `hang_seconds`. The engine adds one to `pulse` when it
    enters a step and when it leaves, and pays nothing else.

    `wait` sleeps for so many seconds, and says True when there is nothing left to watch, upon
    which `ended` is called; `hung` is called with words at every look that finds it hanging.
    """

    def __init__(
        self,
        hang_seconds: float,
        mark: Callable[[], Hashable | None],
        wait: Callable[[float], bool],
        hung: Callable[[str], None],
        ended: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pulse = 0
        self._stall = Stall(hang_seconds)
        self._mark = mark
        self._wait = wait
        self._hung = hung
        self._ended = ended
        self._now = now

    def start(self) -> None:
        threading.Thread(target=self.watch, name="spotmill-watchdog", daemon=True).start()

    def watch(self) -> None:
        """Returns when there is nothing left to watch."""
        last = self._now()
        while not self._wait(self._stall.look_seconds):
            now = self._now()
            if self._stall.look(now - last, self.pulse, self._mark()):
                self._hung(f"no token for {self._stall.hang_seconds:g} s")
            last = now
        self._ended()


def leave_process(words: str) -> NoReturn:
    """The end of a process whose engine hangs in it: nothing else gets that thread to let go."""
    log.critical("the engine hangs (%s): this process ends; where its threads are:", words)
    faulthandler.dump_traceback(2)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
