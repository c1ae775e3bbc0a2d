"""A process that outlives a killed worker for long enough to end what the worker left behind.

vLLM's core does not notice that whoever started it is gone, and would hold the device's memory for
ever. Run as a script, with process ids as arguments; at the end of its input it kills them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil


class Guardian:
    """Kills these processes when this one ends without having dismissed it, however it ends."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *(str(one.pid) for one in processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Whoever reads the worker's log to its end must not wait for this.
            stderr=subprocess.DEVNULL,
            # What kills a worker with all of its group must not kill this as well.
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Before it is due, it ends at once and harms nobody."""
        self._process.kill()
        self._process.communicate()


def _guard(pids: Iterable[str]) -> None:
    doomed: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            doomed.append(psutil.Process(int(pid)))
    sys.stdin.buffer.read()
    for one in doomed:
        # Which knows its process from a later one of the same id.
        with suppress(psutil.NoSuchProcess):
            one.kill()


if __name__ == "__main__":
    _guard(sys.argv[1:])
