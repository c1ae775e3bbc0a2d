"""Workers as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from pipeline.core.fleet import WorkerEnd

_DRAIN_SECONDS = 60.0
_REFUSED = 2
# Done, done with error rows, drained, and asked to stop before it could listen.
_NO_PROBLEM = frozenset({0, 3, 75, -signal.SIGTERM})


class LocalPool:
    """Implements `WorkerPool`. `arguments` follow `spotmill worker`, and
    `environment` is added to this process's own.

    A worker is its own process group: Ctrl-C reaches the supervisor alone, which asks for drains.
    Workers outlive a supervisor that is killed; the next one finds what they did in the store.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", "pipeline.cli", "worker", *arguments]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {**os.environ, **environment}

    def start(self, worker_id: str) -> str:
        # A worker's stdout is for its own report; the supervisor's is for one JSON document.
        process = subprocess.Popen(
            [*self._command, "--worker-id", worker_id],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            env=self._environment,
            start_new_session=True,
        )
        self._processes[worker_id] = process
        return f"process {process.pid}"

    def ended(self) -> Mapping[str, WorkerEnd]:
        codes = {name: process.poll() for name, process in self._processes.items()}
        over = {name: code for name, code in codes.items() if code is not None}
        for name in over:
            del self._processes[name]
        return {name: _in_words(code) for name, code in over.items()}

    def running(self) -> int:
        return len(self._processes)

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _DRAIN_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _in_words(code: int) -> WorkerEnd:
    if code in _NO_PROBLEM:
        return WorkerEnd()
    if code < 0:
        return WorkerEnd(f"killed by {_signal_name(-code)}")
    return WorkerEnd(f"exit code {code}", fatal=code == _REFUSED)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
