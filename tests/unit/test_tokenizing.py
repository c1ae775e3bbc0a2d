"""Prompts become the tokens that the model's tokenizer gives, by a shorter way if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import RowRejected
from pipeline.core.rows import ChatPrompt, TextPrompt
from pipeline.engines.tokenizing import Tokenizing

MODEL = Path(__file__).parents[2] / "sample_data/models/target"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def tokenizing(tokenizer: Any) -> Tokenizing:
    return Tokenizing(tokenizer)


@given(text=st.text(max_size=60))
def test_any_text_has_its_tokens(tokenizer: Any, tokenizing: Tokenizing, text: str) -> None:
    assert list(tokenizing.encode(TextPrompt(text))) == tokenizer.encode(text)


def test_what_a_tokenizer_does_around_its_backend_is_kept(tokenizer: Any) -> None:
    class Wrapped:
        """As classes do that add to what the backend gives."""

        backend_tokenizer = tokenizer.backend_tokenizer

        def encode(self, text: str) -> list[int]:
            return [7, *tokenizer.encode(text)]

        def __deepcopy__(self, memo: object) -> Wrapped:
            return self

    assert Tokenizing(Wrapped()).encode(TextPrompt("a"))[0] == 7


def test_a_tokenizer_without_a_backend_is_asked_itself() -> None:
    class Slow:
        def encode(self, text: str) -> list[int]:
            if not text:
                raise ValueError("nothing")
            return list(map(ord, text))

    assert Tokenizing(Slow()).encode(TextPrompt("ab")) == (97, 98)
    with pytest.raises(RowRejected, match="nothing"):
        Tokenizing(Slow()).encode(TextPrompt(""))


def test_a_chat_goes_through_the_models_template(tokenizer: Any) -> None:
    chat = ChatPrompt(({"role": "user", "content": "Hello"},))
    tokens = Tokenizing(tokenizer).encode(chat)
    assert len(tokens) > len(Tokenizing(tokenizer).encode(TextPrompt("Hello")))
