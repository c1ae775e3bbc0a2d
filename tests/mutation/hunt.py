"""Runs nights with mutants in processes of their own, and says which were found."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.mutation.mutant import ROOT

_START_SECONDS = 60.0
_NIGHT_SECONDS = 1.0
"""On a busy machine; nights take a fiftieth of it otherwise."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """`seed` is the first night that failed, None for a survivor; `trouble` says why there is no
    verdict: time that passes only outside of the simulation finds nobody."""

    name: str
    seed: int | None
    nights: int
    sentence: str
    seconds: float
    trouble: str = ""

    @property
    def found(self) -> bool:
        return self.seed is not None


def hunt(name: str, seeds: str, nights: int) -> Hunt:
    """Live these nights, at most so many, with this mutant until one fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.mutation.plant", name, seeds]
    limit = _START_SECONDS + nights * _NIGHT_SECONDS
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return Hunt(name, None, 0, "", limit, f"no verdict after {limit:.0f} s: a night that hangs")
    seconds = time.monotonic() - began
    if done.returncode:
        return Hunt(name, None, 0, "", seconds, done.stderr.strip() or f"exit {done.returncode}")
    return Hunt(name=name, seconds=seconds, **json.loads(done.stdout))


def hunt_all(tasks: Iterable[tuple[str, str, int]], jobs: int) -> Iterator[Hunt]:
    """In order, as soon as they are known."""
    with ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(lambda task: hunt(*task), tasks)
