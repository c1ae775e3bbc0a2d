"""What goes into the engine for one row, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Message: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt that reaches the model as it is (plus the tokenizer's own special tokens)."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """Messages of `role` and `content`, put through the model's own chat template."""

    messages: tuple[Message, ...]


Prompt: TypeAlias = TextPrompt | ChatPrompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens. Names and meanings are vLLM's `SamplingParams`."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def continues_exactly(self) -> bool:
        """Whether prompt + saved tokens, with `max_tokens` reduced, is the same request.

        A stop string may straddle the seam, `min_tokens` and penalties count generated tokens that
        would now be part of the prompt, and a seeded stream of random numbers starts again: such
        rows are restarted. Sampling without a seed continues equal in distribution.
        """
        return (
            not self.stop
            and self.min_tokens == 0
            and self.presence_penalty == 0.0
            and self.frequency_penalty == 0.0
            and self.repetition_penalty == 1.0
            and (self.seed is None or self.temperature == 0.0)
        )


@dataclass(frozen=True, slots=True)
class Request:
    """`saved` are tokens an earlier attempt generated: they continue, and count as output."""

    id: str
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    saved: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request; `token_ids` are all generated ones, saved ones included."""

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class FinishedRow:
    """A row that needs nothing more: a completion, or an `error` and no completion."""

    row: int
    completion: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of some rows. `wasted` were decoded and paid for, but are in no published row."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    draft_proposed: int = 0
    draft_accepted: int = 0
    wasted: int = 0

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            input=self.input + other.input,
            cached_input=self.cached_input + other.cached_input,
            output=self.output + other.output,
            draft_proposed=self.draft_proposed + other.draft_proposed,
            draft_accepted=self.draft_accepted + other.draft_accepted,
            wasted=self.wasted + other.wasted,
        )

    @staticmethod
    def of_rows(rows: Iterable[FinishedRow]) -> TokenCounts:
        total = TokenCounts()
        for row in rows:
            total += TokenCounts(
                input=row.prompt_tokens,
                cached_input=row.cached_tokens,
                output=row.completion_tokens,
            )
        return total


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Counters since the engine started; speculation's are the whole engine's, not a request's."""

    draft_proposed: int = 0
    draft_accepted: int = 0
