"""Drafts can be made fewer in an engine that runs, in any process, and no answer changes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from pipeline.core.rows import Request, Sampling, TextPrompt
from pipeline.engines.vllm import VllmEngine, load_vllm
from pipeline.job_speculative import SpeculativeSpec
from tests.contracts.real_engine import PROMPTS, TARGET, answers, finish, float32

# vLLM and torch warn about themselves while they load.
pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

DRAFT = {
    "method": "draft_model",
    "model": str(TARGET.with_name("draft")),
    "num_speculative_tokens": 4,
}
NGRAM = {"method": "ngram", "prompt_lookup_min": 1, "prompt_lookup_max": 4}
SUFFIX = {"method": "suffix", "num_speculative_tokens": 6}
LIMITED = NGRAM | {"num_speculative_tokens_per_batch_size": [[1, 1, 3], [2, 16, 0]]}


_ARCTIC = pytest.mark.skipif(
    find_spec("arctic_inference") is None, reason="arctic-inference is not installed"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((DRAFT, False), id="draft model"),
        pytest.param((DRAFT, True), id="draft model, own process", marks=pytest.mark.nightly),
        # In a process of its own: beside n-gram's compiler, vLLM's CPU build loads no other engine.
        pytest.param((NGRAM, True), id="ngram, own process", marks=pytest.mark.nightly),
        pytest.param(
            (SUFFIX, True), id="suffix, own process", marks=[pytest.mark.nightly, _ARCTIC]
        ),
        pytest.param((LIMITED, True), id="by batch size, own process", marks=pytest.mark.nightly),
    ],
)
def engine(request: pytest.FixtureRequest) -> Iterator[VllmEngine]:
    settings, own_process = request.param
    model = float32().model_copy(update={"speculative": SpeculativeSpec(**settings)})
    made = load_vllm(model, "cpu", own_process=own_process)
    yield made
    made.close()


def requests(engine: VllmEngine, name: str) -> list[Request]:
    return [
        Request(f"{name}-{n}", engine.encode(TextPrompt(text)), Sampling(max_tokens=40))
        for n, text in enumerate(PROMPTS)
    ]


def tokens(done: dict[str, Any]) -> list[tuple[int, ...]]:
    return [done[name].token_ids for name in sorted(done)]


def test_at_depth_zero_nothing_is_drafted_and_the_answers_are_the_same(engine: VllmEngine) -> None:
    drafting = tokens(answers(engine, requests(engine, "on")))
    proposed = engine.metrics().draft_proposed
    engine.speculate(0)
    assert tokens(answers(engine, requests(engine, "off"))) == drafting
    # The drafts of the last step before may still have been looked at.
    assert engine.metrics().draft_proposed - proposed <= len(PROMPTS) * engine.draft_depth
    engine.speculate(engine.draft_depth)


def test_rows_in_flight_do_not_notice(engine: VllmEngine) -> None:
    expected = tokens(answers(engine, requests(engine, "still")))
    for request in requests(engine, "moved"):
        engine.submit(request)
    done: dict[str, Any] = {}
    for depth in (0, 1, engine.draft_depth, 0, 2, engine.draft_depth):
        engine.speculate(depth)
        for _ in range(4):
            done |= {one.request_id: one for one in engine.step()}
    assert tokens(done | finish(engine)) == expected


def test_a_lesser_depth_proposes_less(engine: VllmEngine) -> None:
    before = engine.metrics().draft_proposed
    answers(engine, requests(engine, "deep"))
    deep = engine.metrics().draft_proposed - before
    engine.speculate(1)
    answers(engine, requests(engine, "shallow"))
    shallow = engine.metrics().draft_proposed - before - deep
    engine.speculate(engine.draft_depth)
    assert shallow <= deep
    engine.forget_prefixes()
