"""Two workers at once, and something goes wrong at every single store call of every process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.campaign import failings
from tests.simulation.memory_rows import Row
from tests.simulation.night import EXACT, RESTARTS, Night, Pace
from tests.simulation.sim_store import BLOWS, Blow, Weather
from tests.simulation.universe import Universe

# What freezes or comes late does so for up to two leases and a half.
TWO_AT_ONCE = Night(
    seed=20,
    rows={
        0: (Row("red hare", EXACT), Row("green bear", RESTARTS), Row("", EXACT)),
        1: (Row("dark cat", RESTARTS), Row("shy mouse", EXACT)),
    },
    pace=Pace(workers=2, window=2, lease_seconds=8.0, tick_seconds=4.0),
    weather=Weather(latency=0.25, slow_seconds=20.0),
)
RETRIED = replace(TWO_AT_ONCE, pace=replace(TWO_AT_ONCE.pace, retries=8))


def calls_of(night: Night) -> list[tuple[str, int]]:
    """Every store call of the undisturbed night: whose, and its how many-th."""
    calls: list[tuple[str, int]] = []
    counted: dict[str, int] = {}

    def count(_now: float, process: str, _verb: str, _key: str, _outcome: str) -> None:
        number = counted.get(process, 0)
        calls.append((process, number))
        counted[process] = number + 1

    assert failings(night, count) == []
    return calls


@pytest.mark.parametrize("night", [TWO_AT_ONCE, RETRIED], ids=["bare", "retried"])
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: str(blow).replace("Effect.", "").lower())
def test_a_blow_at_any_store_call(night: Night, blow: Blow) -> None:
    failed = {
        call: found
        for call in calls_of(night)
        if (found := failings(replace(night, strikes={call: blow})))
    }
    assert failed == {}


def test_two_workers_are_killed_at_once_at_any_wait() -> None:
    """Every store call, step and pause of the first worker's life, and a second death beside it."""
    undisturbed = Universe(TWO_AT_ONCE)
    undisturbed.run()
    waits = [worker.process.waits for worker in undisturbed.workers.values()]
    failed = {}
    for wait in range(1, waits[0] + 1):
        other = 1 + wait * 7 % waits[1]
        night = replace(TWO_AT_ONCE, dies_at={0: wait, 1: other})
        if found := failings(night):
            failed[wait, other] = found
    assert failed == {}
