"""Two thousand nights, each made by its seed: whatever happens in one, the invariants hold."""

from __future__ import annotations

import os

from tests.simulation.campaign import failings, failures, replay
from tests.simulation.night import night

FIRST, LAST = 1, 2_000


def test_every_seed_of_the_usual_range_ends_well() -> None:
    first, _, last = os.environ.get("SPOTMILL_SEEDS", f"{FIRST}-{LAST}").partition("-")
    failed = [
        f"{replay(seed)}\n    " + "\n    ".join(found)
        for seed, found in failures(range(int(first), int(last) + 1), jobs=2)
    ]
    assert not failed, "\n".join(failed)


def test_a_seed_is_the_same_night_every_time() -> None:
    def events(seed: int) -> list[tuple[float, str, str, str, str]]:
        told: list[tuple[float, str, str, str, str]] = []
        failings(night(seed), lambda *event: told.append(event))
        return told

    for seed in range(100):
        assert events(seed) == events(seed), f"seed {seed}"
