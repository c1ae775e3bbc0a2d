"""The processes of an engine core that does not run in this one."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe, wait
from multiprocessing.process import BaseProcess

import psutil

from pipeline.engines.guardian import Guardian
from pipeline.engines.last_words import root_cause
from pipeline.engines.overheard import Overheard

_NEWS_SECONDS = 5.0
_DEATH_SECONDS = 10.0


class CoreProcesses:
    """Watched from one thread, asked and killed from any."""

    def __init__(self, processes: Sequence[BaseProcess], overheard: Overheard) -> None:
        self._processes = tuple(processes)
        self._overheard = overheard
        self._hears_release, self._releases = Pipe(duplex=False)
        self._killed_because = ""
        self._guardian = Guardian.of(self._family())

    def wait(self, seconds: float) -> bool:
        """True as soon as one has died, or `release` was called."""
        alive = [process.sentinel for process in self._processes]
        return bool(wait([*alive, self._hears_release], seconds))

    def release(self) -> None:
        """For processes that are gone, or are to go on without this one."""
        self._guardian.dismiss()
        self._releases.send_bytes(b".")

    def kill(self, because: str = "") -> None:
        """All of them and their children, also where they are stopped; returns when they are
        gone, or have resisted for ten seconds."""
        self._killed_because = because or self._killed_because
        for one in self._family():
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for process in self._processes:
            process.join(_DEATH_SECONDS)

    @property
    def dead(self) -> bool:
        return any(process.exitcode is not None for process in self._processes)

    def last_words(self) -> str:
        """Why it was killed from here, how a process ended, and its own last error, if any."""
        if self._killed_because:
            return f"{self._killed_because}, so its process was killed"
        # A core that failed says so a moment before it ends.
        before = time.monotonic()
        while not self.dead and time.monotonic() - before < _NEWS_SECONDS:
            time.sleep(0.05)
        said = root_cause(self._overheard.text())
        ends = [_end(process) for process in self._processes if process.exitcode]
        return "; ".join(filter(None, [said, *ends])) or "its process ended without a word"

    def _family(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                core = psutil.Process(process.pid)
                found += [core, *core.children(recursive=True)]
        return found


def _end(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code > 0:
        return f"{process.name} ended with exit code {code}"
    with suppress(ValueError):
        return f"{process.name} was killed by {signal.Signals(-code).name}"
    return f"{process.name} was killed by signal {-code}"
