"""From a prompt to the model's token ids, with the tokenizer that came with the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.core.errors import RowRejected
from pipeline.core.rows import ChatPrompt, Prompt

_PROBES = ("Hello, world", " two  spaces\n\tand\n", "été 日本 🙂", "<s>[INST] <|im_start|>", "")


class Tokenizing:
    """Of a tokenizer of its own, since prompts are encoded beside the engine's detokenizing."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = copy.deepcopy(tokenizer)
        self._encode_text = _text_encoder(self._tokenizer)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Thread-safe. Raises `RowRejected`."""
        try:
            if isinstance(prompt, ChatPrompt):
                tokens = self._tokenizer.apply_chat_template(
                    [dict(message) for message in prompt.messages],
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=False,
                )
            else:
                tokens = self._encode_text(prompt.text)
        except BaseException as problem:
            # Chat templates are programs that come with models: they may raise anything. What
            # tokenizers, written in Rust, raise when they panic is not even an `Exception`.
            if isinstance(problem, Exception) or type(problem).__name__ == "PanicException":
                raise RowRejected(f"the tokenizer refuses the prompt: {problem}") from problem
            raise
        return tuple(tokens)


def _text_encoder(tokenizer: Any) -> Callable[[str], Sequence[int]]:
    """The tokenizer's own `encode`, or what gives the same without computing which characters
    each token is made of, which takes a quarter of the time."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.truncation is not None or backend.padding is not None:
        return tokenizer.encode  # type: ignore[no-any-return]

    def encode(text: str) -> Sequence[int]:
        ids: Sequence[int] = backend.encode_batch_fast([text])[0].ids
        return ids

    # Around the backend, a tokenizer's class may do more than handing on.
    same = all(encode(probe) == tokenizer.encode(probe) for probe in _PROBES)
    return encode if same else tokenizer.encode
