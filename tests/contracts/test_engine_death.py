"""Real vLLM in a process of its own: it may be killed, or hang, and the rows go on elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest

from pipeline.core.errors import EngineDied
from pipeline.core.rows import Completion, Request, Sampling, TextPrompt
from pipeline.engines.vllm import VllmEngine, load_vllm
from tests.contracts.real_engine import PROMPTS, answers, finish, float32

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

# So long that nothing is finished when it dies.
LONG = Sampling(max_tokens=300, min_tokens=200)
HANG_SECONDS = 3.0
_undisturbed: dict[str, Completion] = {}


def asked(engine: VllmEngine) -> list[Request]:
    return [
        Request(f"row-{row}", engine.encode(TextPrompt(text)), LONG)
        for row, text in enumerate(PROMPTS)
    ]


def computing_process(core: psutil.Process) -> psutil.Process:
    """On a CPU, vLLM's core computes in a child of its own, where a kernel would crash."""
    [child] = core.children()
    return child


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        # In make test, tests/e2e/test_engine_death.py kills one.
        pytest.param(
            lambda core: core.kill(), "EngineCore was killed by SIGKILL", marks=pytest.mark.nightly
        ),
        pytest.param(
            lambda core: computing_process(core).send_signal(signal.SIGSEGV),
            "Segfault|Segmentation",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            lambda core: core.suspend(),
            "no token for 3 s, so its process was killed",
            marks=pytest.mark.nightly,
        ),
        # As a whole group gets it, from systemd or a terminal: vLLM aborts what runs, and ends.
        pytest.param(lambda core: core.terminate(), "its process ended", marks=pytest.mark.nightly),
    ],
    ids=["killed", "crashed", "hanging", "told"],
)
def test_a_dead_engines_rows_go_on_in_another(
    harm: Callable[[psutil.Process], None], words: str
) -> None:
    first = load_vllm(float32(), "cpu", own_process=True, hang_seconds=HANG_SECONDS)
    for request in asked(first):
        first.submit(request)
    for _ in range(20):
        first.step()
    before = {name: tuple(tokens) for name, tokens in first.in_flight().items()}
    assert before.keys() == {"row-0", "row-1", "row-2"}
    harm(own_core())

    began = time.monotonic()
    with pytest.raises(EngineDied, match=words):
        while True:
            first.step()
    assert time.monotonic() - began < HANG_SECONDS + 6

    saved = {name: tuple(tokens) for name, tokens in first.in_flight().items()}
    for name, tokens in before.items():
        assert saved[name][: len(tokens)] == tokens
        assert len(saved[name]) >= 15
    with pytest.raises(EngineDied):
        first.submit(replace(asked(first)[0], id="too late"))
    first.abort(["row-2"])
    began = time.monotonic()
    first.close()
    first.close()
    assert time.monotonic() - began < 10
    assert first.in_flight().keys() == {"row-0", "row-1"}
    assert first.metrics().draft_proposed == 0
    with pytest.raises(EngineDied, match="closed"):
        first.step()

    second = load_vllm(float32(), "cpu")
    try:
        continued = answers(second, [replace(r, saved=saved[r.id]) for r in asked(second)])
        if not _undisturbed:
            _undisturbed.update(answers(second, asked(second)))
    finally:
        second.close()
    for name, whole in _undisturbed.items():
        ended = continued[name]
        assert ended.token_ids == whole.token_ids
        assert (ended.text, ended.finish_reason) == (whole.text, whole.finish_reason)


def own_core() -> psutil.Process:
    """By the name that vLLM gives it; multiprocessing has a helper beside it."""
    [core] = [
        child for child in psutil.Process().children() if "EngineCore" in str(child.cmdline())
    ]
    return core


@pytest.mark.nightly
def test_an_engine_in_this_process_may_be_loaded_again_and_again() -> None:
    """And its counters, which are the process's, begin at nothing each time."""
    for _ in range(2):
        engine = load_vllm(float32(), "cpu")
        try:
            first = answers(engine, asked(engine)[:1])
            assert len(first["row-0"].token_ids) > 200
            assert finish(engine) == {}
            assert engine.metrics().draft_proposed == 0
        finally:
            engine.close()
