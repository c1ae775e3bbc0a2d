"""What `spotmill tune` measures, on engines whose speed and answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.core.errors import EngineFailed
from pipeline.core.ports import Engine
from pipeline.core.rows import Completion, Sampling, TextPrompt
from pipeline.core.speculation import choose
from pipeline.engines.scripted import REJECTED, ScriptedEngine, ScriptedSettings
from pipeline.job_speculative import SpeculativeSpec
from pipeline.tuning import Measured, SampleRow, measure
from tests.simulation.drafting import DraftingEngine
from tests.simulation.fakes import VirtualClock

NGRAM = SpeculativeSpec(method="ngram", num_speculative_tokens=4)
SUFFIX = SpeculativeSpec(method="suffix", num_speculative_tokens=8)
SETTINGS = ScriptedSettings(window=16, tokens=12, step_seconds=0.25)


def rows(count: int = 60, **sampling: float) -> list[SampleRow]:
    asked = Sampling(max_tokens=10, **sampling)  # type: ignore[arg-type]
    return [SampleRow(TextPrompt(f"row {row}"), asked) for row in range(count)]


class Place:
    """Where engines are loaded: one at a time, each method with its speeds by depth."""

    def __init__(self, **speeds: dict[int, float] | str) -> None:
        self.clock = VirtualClock()
        self.speeds = speeds
        self.loaded: list[str] = []
        self.open: Engine | None = None
        self.spoiled: tuple[str, ...] = ()

    def load(self, settings: SpeculativeSpec) -> Engine:
        assert self.open is None or not self.open.in_flight()
        self.loaded.append(f"{settings.method}-{settings.num_speculative_tokens}")
        if settings.method == "none":
            return ScriptedEngine(SETTINGS, self.clock.sleep)
        speeds = self.speeds[settings.method]
        if isinstance(speeds, str):
            raise EngineFailed("the engine could not start", why=speeds)
        self.open = DraftingEngine(SETTINGS, self.clock.sleep, speeds, self.spoil)
        return self.open

    def spoil(self, answer: Completion) -> Completion:
        if answer.request_id not in self.spoiled:
            return answer
        return replace(answer, text="spoiled", token_ids=(1, 2))

    def measure(
        self,
        sample: Sequence[SampleRow],
        *candidates: tuple[SpeculativeSpec, Sequence[int]],
    ) -> Measured:
        return measure(self.load, sample, candidates, self.clock)


def test_every_depth_is_measured_in_one_engine_of_its_method() -> None:
    place = Place(ngram={0: 1.0, 2: 1.2, 4: 1.5}, suffix={0: 1.0, 8: 0.5})
    found = place.measure(rows(), (NGRAM, (2, 4)), (SUFFIX, (8,)))
    assert place.loaded == ["none-3", "ngram-4", "suffix-8"]
    depths = [trial.settings["num_speculative_tokens"] for trial in found.trials]
    assert depths == [2, 4, 8]
    assert [trial.gain for trial in found.trials] == pytest.approx([1.2, 1.5, 0.5], rel=0.05)
    assert [len(trial.ratios) for trial in found.trials] == [3, 3, 1]
    assert [trial.agreement.same for trial in found.trials] == [45, 45, 15]
    assert choose(found.trials).settings["num_speculative_tokens"] == 4


def test_a_candidate_that_answers_otherwise_is_not_exact() -> None:
    place = Place(ngram={0: 1.0, 4: 2.0})
    place.spoiled = ("tune-7",)
    [trial] = place.measure(rows(), (NGRAM, (4,))).trials
    # The scripted engine knows no near-ties, so one answer that differs is one too many.
    assert (trial.agreement.same, trial.agreement.differing) == (44, 1)
    assert place.loaded[-1] == "none-3"
    assert choose([trial]).settings["method"] == "none"


def test_sampled_rows_are_measured_and_not_compared() -> None:
    place = Place(ngram={0: 1.0, 4: 2.0})
    place.spoiled = ("tune-7",)
    [trial] = place.measure(rows(temperature=0.7), (NGRAM, (4,))).trials
    assert (trial.agreement.sampled, trial.agreement.same) == (45, 0)
    assert trial.agreement.exact


def test_answers_that_cannot_be_continued_are_untold() -> None:
    place = Place(ngram={0: 1.0, 4: 2.0})
    place.spoiled = ("tune-7",)
    [trial] = place.measure(rows(presence_penalty=0.5), (NGRAM, (4,))).trials
    assert (trial.agreement.untold, trial.agreement.same) == (1, 44)


def test_what_does_not_load_is_told_and_the_others_are_measured() -> None:
    place = Place(ngram="out of memory", suffix={0: 1.0, 8: 1.1})
    broken, whole = place.measure(rows(), (NGRAM, (2, 4)), (SUFFIX, (8,))).trials
    assert "out of memory" in str(broken.problem)
    assert whole.gain > 1.05


def test_rows_that_are_refused_are_left_out() -> None:
    bad = SampleRow(TextPrompt(f"please {REJECTED}"), Sampling(max_tokens=10))
    place = Place(ngram={0: 1.0, 4: 2.0})
    found = place.measure([*rows(20), bad], (NGRAM, (4,)))
    assert (found.rows, found.rejected) == (21, 1)
    assert found.trials[0].agreement.same == 15
    assert place.measure([bad], (NGRAM, (4,))).trials == ()


def test_an_engine_that_cannot_be_switched_is_compared_with_the_plain_one() -> None:
    class Fixed(DraftingEngine):
        @property
        def draft_depth(self) -> int:
            return 0

    class FixedPlace(Place):
        def load(self, settings: SpeculativeSpec) -> Engine:
            if settings.method == "none":
                return super().load(settings)
            self.loaded.append(f"{settings.method}-{settings.num_speculative_tokens}")
            depth = settings.num_speculative_tokens
            return Fixed(SETTINGS, self.clock.sleep, {depth: 1 + depth / 10})

    place = FixedPlace()
    deep, shallow = place.measure(rows(), (NGRAM, (2, 4))).trials
    assert place.loaded == ["none-3", "ngram-4", "ngram-2"]
    assert deep.gain == pytest.approx(1.4, rel=0.05)
    assert shallow.gain == pytest.approx(1.2, rel=0.05)
