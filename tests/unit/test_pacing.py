"""The pace of a sample is that of a long run, however small the sample and large the window."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.core.rows import Completion, Request, Sampling, TextPrompt
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.near_ties import generate
from pipeline.predicting.pacing import paced
from tests.simulation.fakes import VirtualClock

STEP_SECONDS, PROMPT_SECONDS = 0.02, 0.004


class ReadingEngine(ScriptedEngine):
    """Takes its time over each prompt that is new to it, in the step after."""

    def __init__(self, window: int, clock: VirtualClock) -> None:
        settings = ScriptedSettings(
            window=window, tokens=100, step_seconds=STEP_SECONDS, max_model_len=4_096
        )
        super().__init__(settings, clock.sleep)
        self._clock, self._unread = clock, 0

    def submit(self, request: Request) -> None:
        super().submit(request)
        self._unread += 1

    def step(self) -> Sequence[Completion]:
        self._clock.sleep(PROMPT_SECONDS * self._unread)
        self._unread = 0
        return super().step()


def asked(engine: ScriptedEngine, rows: range, mark: str = "") -> list[Request]:
    prompts = ((row, TextPrompt(f"question {row}{mark}")) for row in rows)
    limits = Sampling(max_tokens=100)
    return [Request(f"r{row}", engine.encode(prompt), limits) for row, prompt in prompts]


def of_a_long_run(window: int) -> float:
    clock = VirtualClock()
    engine = ReadingEngine(window, clock)
    done = generate(engine, asked(engine, range(40 * window))).values()
    return sum(len(one.token_ids) for one in done if isinstance(one, Completion)) / clock.now()


@pytest.mark.parametrize("window", [8, 64, 256])
def test_the_pace_is_a_long_runs(window: int) -> None:
    expected = of_a_long_run(window)
    for rows, off in ((8, 0.2), (40, 0.15), (200, 0.1)):
        clock = VirtualClock()
        engine = ReadingEngine(window, clock)
        requests = asked(engine, range(rows))
        beside = asked(engine, range(rows, rows + 3 * window))
        found = paced(engine, requests, beside, window, clock)
        # Lengths by chance, and the long run's own end, when few rows are left.
        assert found.tokens_per_second == pytest.approx(expected, rel=off)
        assert found.answers.keys() == {request.id for request in requests}
        assert not engine.in_flight()


def test_few_rows_keep_the_window_full_by_coming_again() -> None:
    clock = VirtualClock()
    engine = ScriptedEngine(ScriptedSettings(window=64, step_seconds=0.5), clock.sleep)
    found = paced(engine, asked(engine, range(3)), asked(engine, range(3, 5)), 64, clock)
    assert found.tokens_per_second == pytest.approx(128)
    assert len(found.answers) == 3


def test_what_the_engine_refuses_is_left_out() -> None:
    clock = VirtualClock()
    engine = ScriptedEngine(ScriptedSettings(window=4, step_seconds=0.5), clock.sleep)
    bad, good = asked(engine, range(5), " [[reject]]"), asked(engine, range(5, 10))
    found = paced(engine, [*bad, *good], bad, 4, clock)
    assert found.answers.keys() == {request.id for request in good}
    assert 0 < found.tokens_per_second <= 8
    nothing = paced(engine, bad, bad, 4, clock)
    assert (nothing.answers, nothing.tokens_per_second) == ({}, 0)
