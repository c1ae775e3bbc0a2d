"""What goes into the engine for one row, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

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
class Structured:
    """What the answer's text must match: exactly one of these. `json` is a JSON schema's text."""

    json: str | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None


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
    logprobs: int | None = None
    structured: Structured | None = None

    @property
    def continues_exactly(self) -> bool:
        """Whether a row goes on from its saved tokens, or has to be restarted from its prompt.

        Presence and frequency penalties count generated tokens alone, which the saved ones no
        longer are; a seeded stream of random numbers, a grammar and earlier tokens' logprobs are
        not brought back by a prompt. Sampling without a seed goes on equal in distribution; where
        it must restart, it is drawn anew, which favours short answers (docs/continuation.md).
        """
        return (
            self.presence_penalty == 0.0
            and self.frequency_penalty == 0.0
            and (self.seed is None or self.temperature == 0.0)
            and self.logprobs is None
            and self.structured is None
        )

    @property
    def is_repeatable(self) -> bool:
        """Whether the same prompt has the same answer every time: nothing is left to chance."""
        return self.temperature == 0.0 or self.seed is not None


@dataclass(frozen=True, slots=True)
class Request:
    """`saved` are tokens an earlier attempt generated: they continue, and count as output."""

    id: str
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    saved: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """`token` is the text this token adds; empty while a character's bytes are incomplete."""

    token: str
    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class PositionLogprobs:
    """The token that was drawn, and the `top` likeliest ones, the likeliest first."""

    token: str
    token_id: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request; `token_ids` are all generated ones, saved ones included. `logprobs`
    has an entry for each of them, where the sampling asks for it."""

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    cached_tokens: int
    logprobs: tuple[PositionLogprobs, ...] | None = None


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
    logprobs: tuple[PositionLogprobs, ...] | None = None

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> FinishedRow:
        """The inverse of `dataclasses.asdict`, and of that as JSON."""
        positions = document.get("logprobs")
        if positions is None:
            return FinishedRow(**document)
        return FinishedRow(**{**document, "logprobs": tuple(map(_position, positions))})


class FinishedRows(Protocol):
    """The finished rows of one shard, by row: a dict, or what keeps most of them on a disk.

    There may be millions: ask for one, or for each from the first on, and collect none of them.
    """

    def __len__(self) -> int: ...

    def __contains__(self, row: object, /) -> bool: ...

    def __iter__(self) -> Iterator[int]: ...

    def __getitem__(self, row: int, /) -> FinishedRow: ...

    def __setitem__(self, row: int, finished: FinishedRow, /) -> None: ...


def _position(document: Mapping[str, Any]) -> PositionLogprobs:
    return PositionLogprobs(
        document["token"],
        document["token_id"],
        document["logprob"],
        tuple(TokenLogprob(**top) for top in document["top"]),
    )


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of some rows. `wasted` were decoded and paid for, but are in no published row;
    `copied` are in published rows, but nobody decoded them: another row's answer holds for them."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    draft_proposed: int = 0
    draft_accepted: int = 0
    wasted: int = 0
    copied: int = 0

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            input=self.input + other.input,
            cached_input=self.cached_input + other.cached_input,
            output=self.output + other.output,
            draft_proposed=self.draft_proposed + other.draft_proposed,
            draft_accepted=self.draft_accepted + other.draft_accepted,
            wasted=self.wasted + other.wasted,
            copied=self.copied + other.copied,
        )

    @staticmethod
    def of_rows(rows: Iterable[FinishedRow]) -> TokenCounts:
        given = cached = output = 0
        for row in rows:
            given += row.prompt_tokens
            cached += row.cached_tokens
            output += row.completion_tokens
        return TokenCounts(input=given, cached_input=cached, output=output)


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Counters since the engine started; speculation's are the whole engine's, not a request's."""

    draft_proposed: int = 0
    draft_accepted: int = 0
