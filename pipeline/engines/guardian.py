"""A process that outlives a killed worker for long enough to end what the worker left behind.

vLLM's core does not notice that whoever started it is gone, and would hold the device's memory for
ever. Run as a script, with process ids as arguments: when its input ends it kills them, or, with
`--children-of` before an id, the children that this process has begun since.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

import psutil

_LOOK_SECONDS = 0.25


class Guardian:
    """Kills these processes when this one ends without having dismissed it, however it ends."""

    @staticmethod
    def of_children_to_come() -> Guardian:
        """While an engine starts, nobody knows its processes yet."""
        return Guardian(["--children-of", str(os.getpid())])

    @staticmethod
    def of(processes: Iterable[psutil.Process]) -> Guardian:
        return Guardian([str(one.pid) for one in processes])

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *arguments],
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
    _kill(doomed)


def _guard_children_of(pid: int) -> None:
    parent = psutil.Process(pid)
    before = set(parent.children(recursive=True))
    doomed: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
        with suppress(psutil.NoSuchProcess):
            doomed |= set(parent.children(recursive=True)) - before
    _kill(doomed)


def _kill(doomed: Iterable[psutil.Process]) -> None:
    for one in doomed:
        # Which knows its process from a later one of the same id.
        with suppress(psutil.NoSuchProcess):
            one.kill()


if __name__ == "__main__":
    if sys.argv[1] == "--children-of":
        _guard_children_of(int(sys.argv[2]))
    else:
        _guard(sys.argv[1:])
