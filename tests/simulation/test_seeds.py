"""Two thousand nights, each made by its seed: whatever happens in one, the invariants hold."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib

import pytest

from tests.simulation.campaign import failings, failures, replay
from tests.simulation.night import night

FIRST, LAST = 1, 2_000


@pytest.mark.timeout(900)
def test_every_seed_of_the_usual_range_ends_well() -> None:
    first, _, last = os.environ.get("SPOTMILL_SEEDS", f"{FIRST}-{LAST}").partition("-")
    failed = [
        f"{replay(seed)}\n    " + "\n    ".join(found)
        for seed, found in failures(range(int(first), int(last) + 1), jobs=2)
    ]
    assert not failed, "\n".join(failed)


def events_of(seeds: range) -> int:
    """A digest of everything that happens in these nights, and when."""
    digest = 0

    def note(*event: object) -> None:
        nonlocal digest
        digest = zlib.crc32(repr(event).encode(), digest)

    for seed in seeds:
        failings(night(seed), note)
    return digest


def test_a_seed_is_the_same_night_in_every_process() -> None:
    """In another process, sets have another order and secrets are other ones."""
    here = events_of(range(40))
    assert here == events_of(range(40))
    told = "from tests.simulation.test_seeds import events_of; print(events_of(range(40)))"
    command = [sys.executable, "-W", "ignore", "-c", told]
    there = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": "4711"}
    )
    assert int(there.stdout) == here
