"""What every engine promises the feed; the scripted one and real vLLM take the same tests."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pipeline.core.errors import RowRejected
from pipeline.core.ports import Engine
from pipeline.core.rows import ChatPrompt, Request, Sampling, TextPrompt
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.engines.vllm import load_vllm
from tests.contracts.real_engine import PROMPTS, answers, finish, float32


@pytest.fixture(
    scope="module",
    params=[
        "scripted",
        pytest.param(
            # vLLM and torch warn about themselves while they load.
            "vllm",
            marks=[pytest.mark.vllm, pytest.mark.filterwarnings("ignore")],
        ),
        pytest.param(
            # As it always is on a GPU.
            "vllm in its own process",
            marks=[pytest.mark.vllm, pytest.mark.filterwarnings("ignore")],
        ),
    ],
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = (
        ScriptedEngine(ScriptedSettings(max_model_len=512, tokens=40), time.sleep)
        if request.param == "scripted"
        else load_vllm(float32(), "cpu", own_process=request.param != "vllm")
    )
    yield made
    made.close()


def requests(engine: Engine, max_tokens: int = 24) -> list[Request]:
    return [
        Request(f"row-{row}", engine.encode(TextPrompt(text)), Sampling(max_tokens=max_tokens))
        for row, text in enumerate(PROMPTS)
    ]


def test_every_request_finishes_once_with_its_tokens(engine: Engine) -> None:
    done = answers(engine, requests(engine))
    assert done.keys() == {"row-0", "row-1", "row-2"}
    for completion in done.values():
        assert completion.text
        assert 0 < len(completion.token_ids) <= 24
        assert completion.finish_reason in ("stop", "length")
    assert engine.step() == []


def test_the_same_request_gets_the_same_answer(engine: Engine) -> None:
    first, again = answers(engine, requests(engine)), answers(engine, requests(engine))
    assert [c.token_ids for c in first.values()] == [c.token_ids for c in again.values()]


def test_in_flight_shows_the_tokens_so_far(engine: Engine) -> None:
    whole = answers(engine, requests(engine))
    for request in requests(engine):
        engine.submit(request)
    assert not any(engine.in_flight().values())
    for _ in range(4):
        engine.step()
    so_far = engine.in_flight()
    assert any(so_far.values())
    for name, tokens in so_far.items():
        assert tuple(tokens) == whole[name].token_ids[: len(tokens)]
    finish(engine)


def test_a_request_continues_from_its_saved_tokens(engine: Engine) -> None:
    whole = answers(engine, requests(engine))
    continued = [
        Request(r.id, r.prompt_token_ids, r.sampling, saved=whole[r.id].token_ids[:3])
        for r in requests(engine)
        if len(whole[r.id].token_ids) > 3
    ]
    assert continued
    for name, completion in answers(engine, continued).items():
        assert completion.token_ids == whole[name].token_ids
        assert completion.text == whole[name].text
        assert completion.finish_reason == whole[name].finish_reason


def test_an_aborted_request_is_gone(engine: Engine) -> None:
    for request in requests(engine):
        engine.submit(request)
    engine.step()
    engine.abort(["row-0", "row-2", "never-there"])
    assert engine.in_flight().keys() <= {"row-1"}
    assert finish(engine).keys() <= {"row-1"}


def test_a_prompt_that_fills_the_window_is_that_rows_problem(engine: Engine) -> None:
    long = Request("long", engine.encode(TextPrompt("many words " * 2000)), Sampling())
    with pytest.raises(RowRejected, match=r"(?i)window|long|length|maximum"):
        engine.submit(long)
    assert answers(engine, requests(engine)).keys() == {"row-0", "row-1", "row-2"}


def test_chats_are_put_through_a_template(engine: Engine) -> None:
    chat = ChatPrompt(({"role": "user", "content": "The app crashes."},))
    tokens = engine.encode(chat)
    assert len(tokens) > len(engine.encode(TextPrompt("The app crashes.")))


def test_one_token_is_enough(engine: Engine) -> None:
    done = answers(engine, requests(engine, max_tokens=1))
    assert [len(c.token_ids) for c in done.values()] == [1, 1, 1]


def test_the_window_and_the_version_are_known(engine: Engine) -> None:
    assert engine.window >= 16
    assert len(engine.version.split()) == 2
