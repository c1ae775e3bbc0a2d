"""Processes that are measured from outside: their time, their processor time, their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.setting import ROOT
from pipeline.engines.limits import Device
from pipeline.engines.preload import cpu_environment

_LAST_WORDS = 1_500
_LOOK_SECONDS = 0.01
_QUIET = {
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "TOKENIZERS_PARALLELISM": "false",
}


class ChildFailed(Exception):
    """A process that was to be measured ended badly; says how, with its last words."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`started` is monotonic time, which all processes of a machine share. `peak_bytes` is the
    largest resident set of the process itself, as it was at most 10 ms before its end."""

    started: float
    wall_seconds: float
    processor_seconds: float
    peak_bytes: int
    output: str

    def document(self) -> dict[str, Any]:
        """The JSON object on the last line of the output. Raises `ChildFailed`."""
        lines = self.output.strip().splitlines()
        try:
            found = json.loads(lines[-1])
        except (IndexError, ValueError) as problem:
            raise ChildFailed(f"no JSON on the last line of the output: {problem}") from problem
        if not isinstance(found, dict):
            raise ChildFailed(f"the last line is a {type(found).__name__}, not a JSON object")
        return found


def environment(device: Device, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """For a process that loads an engine on this machine, alone."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    threads = cpu_environment(1) if device == "cpu" else {}
    return {**kept, **_QUIET, **threads, **(more or {})}


def run(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, seconds: float = 1_800.0
) -> Ended:
    """Run to the end. Raises `ChildFailed` for another exit code than 0, or none in `seconds`."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            # Of its own, so that all of it can be ended.
            start_new_session=True,
        )
        code, usage, peak_bytes = _wait(process, started + seconds)
        wall = time.monotonic() - started
        output.seek(0)
        errors.seek(0)
        said, words = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if code is None:
        raise ChildFailed(f"{_name(command)} took longer than {seconds:g} s")
    if code:
        words = words.strip() or said.strip()
        raise ChildFailed(f"{_name(command)} ended with exit code {code}: {words[-_LAST_WORDS:]}")
    return Ended(started, wall, usage.ru_utime + usage.ru_stime, peak_bytes, said)


def _wait(process: subprocess.Popen[bytes], until: float) -> tuple[int | None, Any, int]:
    """The exit code, None when it took too long; what it used, which only `wait4` tells of one
    child alone; and its peak memory."""
    late = False
    status_file = Path(f"/proc/{process.pid}/status")
    peak_bytes = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return (None if late else process.returncode), usage, peak_bytes
        peak_bytes = max(peak_bytes, _peak_bytes(status_file))
        if not late and time.monotonic() > until:
            late = True
            os.killpg(process.pid, 9)
        time.sleep(_LOOK_SECONDS)


def _peak_bytes(status_file: Path) -> int:
    """The kernel's own high-water mark. What `wait4` tells begins with the memory of whoever forked
    the process, and is this benchmark's where that is larger."""
    try:
        text = status_file.read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else 0


def _name(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command[:4])


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    """The command that runs a module of this checkout with this Python."""
    return [sys.executable, "-m", name, *arguments]
