"""The processes of a run, found as an operator would find them: by their command lines."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunProcess:
    """`worker_id` is None for a supervisor."""

    pid: int
    worker_id: str | None

    @property
    def is_worker(self) -> bool:
        return self.worker_id is not None


def processes_of(run_id: str) -> dict[int, RunProcess]:
    """Supervisors and workers of a run, by process id. Dead ones nobody waited for are none."""
    found: dict[int, RunProcess] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := _process(int(entry.name), run_id)):
            found[process.pid] = process
    return found


def _process(pid: int, run_id: str) -> RunProcess | None:
    words = _command(pid)
    if "pipeline.cli" not in words or run_id not in words:
        return None
    verb = words[words.index("pipeline.cli") + 1]
    if verb == "worker":
        return RunProcess(pid, words[words.index("--worker-id") + 1])
    return RunProcess(pid, None) if verb in ("run", "resume") else None


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def send(process: RunProcess, number: signal.Signals, run_id: str) -> bool:
    """Signal a process of the run; False when it is there no more."""
    # Looked at again, since a process id may belong to somebody else by now.
    if _process(process.pid, run_id) != process:
        return False
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
        return True
    return False


def owner_of_port(port: int, among: Iterable[int]) -> int | None:
    """Which of these processes has a TCP connection from this local port."""
    wanted = f"socket:[{_inode_of(port)}]"
    for pid in among:
        with suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if handle.readlink().name == wanted:
                        return pid
    return None


def _inode_of(port: int) -> str:
    local = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        # Connections that are over keep their line for a minute, without an owner.
        if fields[1].endswith(local) and fields[9] != "0":
            return fields[9]
    return ""
