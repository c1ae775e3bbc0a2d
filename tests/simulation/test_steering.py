"""A worker turns speculation off when it loses, says so in the manifest, and loses no row by it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.core.manifest import Provenance
from pipeline.core.rows import Sampling
from pipeline.core.speculation import Expectation
from pipeline.core.switching import Rules
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.steering import Watching
from pipeline.worker import WorkerReport
from tests.simulation.drafting import DraftingEngine
from tests.simulation.memory_rows import Row
from tests.simulation.world import Pace, World

LONG = Sampling(max_tokens=80)
ROWS = {shard: [Row(f"shard {shard}, row {row}", LONG) for row in range(200)] for shard in (0, 1)}
WARM = Watching(cold=False)
PACE = Pace(chunk_rows=100, chunk_seconds=30, window=32, step_seconds=0.25)


@dataclass(slots=True)
class DraftingWorld(World):
    speeds: dict[int, float] = field(default_factory=dict)
    made: list[DraftingEngine] = field(default_factory=list)

    @property
    def provenance(self) -> Provenance:
        told = {"method": "ngram", "asked": "auto", "switches": []}
        model = {"id": "scripted", "speculative": told}
        return Provenance("night", "sha256:0", model, {"Project": "test"})

    def _load_engine(self, own_process: bool) -> ScriptedEngine:
        settings = ScriptedSettings(window=32, tokens=80, step_seconds=0.25)
        self.made.append(DraftingEngine(settings, self.clock.sleep, self.speeds))
        return self.made[-1]


def world(speeds: dict[int, float], watching: Watching | None = WARM) -> DraftingWorld:
    return DraftingWorld(ROWS, PACE, speeds=speeds, watching=watching)


def told(of: World) -> list[dict[str, Any]]:
    manifests = of.ledger.shard_manifests([0, 1])
    return [manifest["model"]["speculative"] for manifest in manifests]


def check(night: World) -> None:
    """Every manifest worked out again, and every row as where nobody watched."""
    night.finish()
    assert night.problems() == []
    unwatched = world({0: 1.0}, watching=None)
    assert isinstance(unwatched.work(), WorkerReport)
    assert night.answers() == unwatched.answers()


def test_what_loses_is_turned_off_and_the_manifest_tells_why() -> None:
    night = world({0: 1.0, 3: 0.5})
    assert isinstance(night.work(), WorkerReport)
    assert night.made[0].depth == 0
    first, second = told(night)
    [switch] = second["switches"]
    assert (switch["from_depth"], switch["to_depth"]) == (3, 0)
    assert switch["gain"] == pytest.approx(1.0, abs=0.2)
    assert len(switch["pairs"]) >= Rules().pairs
    assert {"method": "ngram", "asked": "auto"}.items() <= first.items()
    check(night)


def test_what_pays_stays_on() -> None:
    night = world({0: 1.0, 3: 1.5})
    assert isinstance(night.work(), WorkerReport)
    assert night.made[0].depth == 3
    assert [one["switches"] for one in told(night)] == [[], []]


def test_unwatched_nothing_is_touched() -> None:
    night = world({0: 1.0, 3: 0.5}, watching=None)
    assert isinstance(night.work(), WorkerReport)
    assert night.made[0].told == []


class Fixed(DraftingEngine):
    """It schedules ahead, and cannot be told."""

    @property
    def draft_depth(self) -> int:
        return 0


@dataclass(slots=True)
class FixedWorld(DraftingWorld):
    taken: float = 0.1
    plain: list[ScriptedEngine] = field(default_factory=list)

    def _load_engine(self, own_process: bool) -> ScriptedEngine:
        self.clock.sleep(self.pace.load_seconds)
        settings = ScriptedSettings(window=32, tokens=80, step_seconds=0.25)
        self.made.append(Fixed(settings, self.clock.sleep, {4: 0.5}, taken=self.taken))
        return self.made[-1]

    def load_plain(self, own_process: bool) -> ScriptedEngine:
        self.clock.sleep(self.pace.load_seconds)
        settings = ScriptedSettings(window=32, tokens=80, step_seconds=0.25)
        self.plain.append(ScriptedEngine(settings, self.clock.sleep))
        return self.plain[-1]


def fixed(taken: float, load_seconds: float) -> FixedWorld:
    pace = Pace(chunk_rows=100, chunk_seconds=30, window=32, step_seconds=0.25)
    pace = replace(pace, load_seconds=load_seconds)
    made = FixedWorld(ROWS, pace, speeds={4: 0.5}, taken=taken)
    # Measured where four drafts in ten were taken: 5 tokens in 3 steps.
    made.watching = Watching(expected=Expectation(1.25, 5 / 3), load_plain=made.load_plain)
    return made


def test_an_engine_that_cannot_be_switched_is_replaced_when_drafts_bring_less() -> None:
    night = fixed(taken=0.0, load_seconds=2.0)
    assert isinstance(night.work(), WorkerReport)
    assert (len(night.made), len(night.plain)) == (1, 1)
    [switch] = told(night)[1]["switches"]
    assert switch["reloaded"]
    assert switch["estimated_gain_of_drafts"] == pytest.approx(1.25 * 3 / 5 - 1, abs=0.01)
    check(night)


@pytest.mark.parametrize(("taken", "load_seconds"), [(0.1, 2.0), (0.0, 600.0)])
def test_it_is_kept_while_it_pays_or_the_load_would_not(taken: float, load_seconds: float) -> None:
    night = fixed(taken, load_seconds)
    assert isinstance(night.work(), WorkerReport)
    assert night.plain == []
    assert [one["switches"] for one in told(night)] == [[], []]


def test_auto_is_not_slower_than_the_better_of_both() -> None:
    for speeds in ({0: 1.0, 3: 1.2}, {0: 1.0, 3: 0.5}):
        seconds = []
        for settings, watching in ((speeds, WARM), ({0: 1.0}, None), ({3: speeds[3]}, None)):
            night = world(settings, watching)
            assert isinstance(night.work(), WorkerReport)
            seconds.append(night.clock.now())
        auto, never, always = seconds
        # Two minutes' work, of which losing is found out in half a minute.
        assert auto < min(never, always) * (1.3 if always > never else 1.02)
