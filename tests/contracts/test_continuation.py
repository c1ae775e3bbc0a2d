"""An answer that is cut anywhere and continued is the answer that was not (docs/continuation.md).

Greedy, in float32, on real vLLM: the same tokens, text and finish reason from every cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.core.rows import Completion, Request, Sampling, Structured, TextPrompt
from pipeline.engines.vllm import VllmEngine, _begun, load_vllm
from tests.contracts.real_engine import PROMPTS, answers, float32

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    made = load_vllm(float32(max_num_seqs=64), "cpu")
    yield made
    made.close()


def asked(engine: VllmEngine, prompt: str, sampling: Sampling) -> Request:
    return Request("whole", engine.encode(TextPrompt(prompt)), sampling)


def whole_answer(engine: VllmEngine, prompt: str, sampling: Sampling) -> Completion:
    [answer] = answers(engine, [asked(engine, prompt, sampling)]).values()
    return answer


def check_every_cut(engine: VllmEngine, prompt: str, sampling: Sampling) -> Completion:
    """Returns the undisturbed answer, for the test to say what is special about it."""
    whole = whole_answer(engine, prompt, sampling)
    request = asked(engine, prompt, sampling)
    cuts = range(1, len(whole.token_ids))
    assert cuts
    continued = answers(
        engine,
        [
            Request(str(cut), request.prompt_token_ids, sampling, whole.token_ids[:cut])
            for cut in cuts
        ],
    )
    for cut in cuts:
        ended = continued[str(cut)]
        assert (cut, ended.token_ids, ended.text, ended.finish_reason) == (
            cut,
            whole.token_ids,
            whole.text,
            whole.finish_reason,
        )
    return whole


@pytest.mark.parametrize("prompt", PROMPTS)
def test_an_answer_that_ends_by_itself(engine: VllmEngine, prompt: str) -> None:
    assert check_every_cut(engine, prompt, Sampling(max_tokens=64)).finish_reason == "stop"


def test_an_answer_that_ends_at_its_limit(engine: VllmEngine) -> None:
    whole = check_every_cut(engine, PROMPTS[0], Sampling(max_tokens=17))
    assert (whole.finish_reason, len(whole.token_ids)) == ("length", 17)


def test_sampling_that_leaves_no_choice(engine: VllmEngine) -> None:
    """What does go through the sampler, but needs no luck."""
    sampling = Sampling(max_tokens=64, temperature=0.8, top_k=1, top_p=0.9, min_p=0.1)
    check_every_cut(engine, PROMPTS[1], sampling)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("stop", ["lm | summ", "calm | ", " | mood: c", "ood: calm | summary: "])
def test_stop_strings_over_the_seam(engine: VllmEngine, prompt: str, stop: str) -> None:
    whole = check_every_cut(engine, prompt, Sampling(max_tokens=64, stop=(stop, "never said")))
    free = whole_answer(engine, prompt, Sampling(max_tokens=64))
    assert whole.finish_reason == "stop"
    assert whole.text == free.text[: free.text.index(stop)]


def test_stop_strings_that_come_too_early_to_count(engine: VllmEngine) -> None:
    sampling = Sampling(max_tokens=64, stop=(" | ", "ss |"), min_tokens=9)
    whole = check_every_cut(engine, PROMPTS[0], sampling)
    assert whole.text.count(" | ") == 2
    assert len(whole.token_ids) > 9


@pytest.mark.parametrize("min_tokens", [3, 28, 45, 64])
def test_min_tokens_counts_the_saved_ones(engine: VllmEngine, min_tokens: int) -> None:
    whole = check_every_cut(engine, PROMPTS[0], Sampling(max_tokens=64, min_tokens=min_tokens))
    assert len(whole.token_ids) >= min_tokens


@pytest.mark.parametrize("penalty", [0.5, 1.1, 1.3, 2.0])
def test_the_repetition_penalty_counts_prompt_and_answer_alike(
    engine: VllmEngine, penalty: float
) -> None:
    sampling = Sampling(max_tokens=40, repetition_penalty=penalty)
    whole = check_every_cut(engine, PROMPTS[2], sampling)
    assert whole.text != whole_answer(engine, PROMPTS[2], Sampling(max_tokens=40)).text


@pytest.mark.parametrize("text", ["Größe 日本語 🙂👩‍👩‍👧 naïve", " leading space", "\n\n  lines\t"])
def test_whole_characters_that_are_cut(engine: VllmEngine, text: str) -> None:
    """This model never says them by itself, so a grammar makes it say them undisturbed, and the
    continued detokenizer is handed the same tokens."""
    forced = Sampling(max_tokens=200, structured=Structured(choice=(text,)))
    whole = whole_answer(engine, PROMPTS[0], forced)
    assert whole.text == text
    spoken = whole.token_ids[:-1]
    request = asked(engine, PROMPTS[0], Sampling(max_tokens=200))
    check_every_cut_of_text(engine, request, spoken, text)


def test_pieces_of_characters_that_never_become_whole(engine: VllmEngine) -> None:
    """Bytes in an order that is no UTF-8, where vLLM's own stream of text has to begin anew."""
    request = asked(engine, PROMPTS[0], Sampling(max_tokens=200))
    bytes_backwards = engine.encode(TextPrompt("🙂日é👩‍👩‍👧ü"))[:0:-1]
    text = spoken_text(engine, request, (), bytes_backwards)
    assert "�" in text
    check_every_cut_of_text(engine, request, bytes_backwards, text)


def check_every_cut_of_text(
    engine: VllmEngine, request: Request, spoken: tuple[int, ...], text: str
) -> None:
    for cut in range(1, len(spoken)):
        assert (cut, spoken_text(engine, request, spoken[:cut], spoken[cut:])) == (cut, text)


def spoken_text(
    engine: VllmEngine, request: Request, saved: tuple[int, ...], more: tuple[int, ...]
) -> str:
    detokenizer = _begun(
        engine._engine, Request("cut", request.prompt_token_ids, request.sampling, saved)
    )
    assert detokenizer.update(list(more), stop_terminated=False) is None
    text: str = detokenizer.get_next_output_text(finished=True, delta=False)
    return text


def test_an_answer_that_had_ended_in_the_saved_tokens_is_restarted(engine: VllmEngine) -> None:
    sampling = Sampling(max_tokens=64, stop=("calm |",))
    whole = whole_answer(engine, PROMPTS[0], sampling)
    free = whole_answer(engine, PROMPTS[0], Sampling(max_tokens=64))
    request = asked(engine, PROMPTS[0], sampling)
    [again] = answers(
        engine, [Request("again", request.prompt_token_ids, sampling, free.token_ids[:20])]
    ).values()
    assert (again.text, again.token_ids) == (whole.text, whole.token_ids)


def test_in_flight_counts_saved_tokens_once(engine: VllmEngine) -> None:
    whole = whole_answer(engine, PROMPTS[1], Sampling(max_tokens=64, stop=("hours",)))
    request = asked(engine, PROMPTS[1], Sampling(max_tokens=64, stop=("hours",)))
    engine.submit(
        Request("r", request.prompt_token_ids, request.sampling, saved=whole.token_ids[:5])
    )
    assert tuple(engine.in_flight()["r"]) == whole.token_ids[:5]
    for _ in range(4):
        engine.step()
    so_far = tuple(engine.in_flight()["r"])
    assert 5 < len(so_far) <= 9
    assert so_far == whole.token_ids[: len(so_far)]
    engine.abort(["r"])


def test_what_cannot_be_continued_gives_the_same_answer_when_restarted(engine: VllmEngine) -> None:
    """Why the others may simply be restarted: greedy, seeded and structured ones are repeatable."""
    for sampling in [
        Sampling(max_tokens=32, presence_penalty=0.8, frequency_penalty=0.4),
        Sampling(max_tokens=32, temperature=0.9, seed=7),
        Sampling(max_tokens=32, structured=Structured(regex="[a-z]{3,9}")),
        Sampling(max_tokens=8, logprobs=2),
    ]:
        assert not sampling.continues_exactly
        first, again = (whole_answer(engine, PROMPTS[0], sampling) for _ in range(2))
        assert first == again


def test_output_penalties_would_not_survive_the_seam(engine: VllmEngine) -> None:
    """The reason for restarting them: vLLM counts saved tokens as prompt, and forgives them."""
    sampling = Sampling(max_tokens=64, min_tokens=64, presence_penalty=2.0, frequency_penalty=2.0)
    with pytest.raises(AssertionError):
        check_every_cut(engine, PROMPTS[0], sampling)


def test_logprobs_are_told_for_every_token(engine: VllmEngine) -> None:
    answer = whole_answer(engine, PROMPTS[0], Sampling(max_tokens=12, logprobs=3))
    assert answer.logprobs is not None
    assert tuple(position.token_id for position in answer.logprobs) == answer.token_ids
    assert "".join(position.token for position in answer.logprobs) == answer.text
    for position in answer.logprobs:
        assert [top.logprob for top in position.top] == sorted(
            (top.logprob for top in position.top), reverse=True
        )
        assert (len(position.top), position.top[0].token_id) == (3, position.token_id)
    none = whole_answer(engine, PROMPTS[0], Sampling(max_tokens=2, logprobs=0))
    assert none.logprobs is not None
    assert [position.top for position in none.logprobs] == [(), ()]
    assert whole_answer(engine, PROMPTS[0], Sampling(max_tokens=2)).logprobs is None
