"""How a request is put to vLLM, above all one that an earlier attempt has begun."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.core.rows import PositionLogprobs, Sampling, TokenLogprob


def sampling_arguments(sampling: Sampling, saved: int) -> dict[str, Any]:
    """What `SamplingParams` takes, without `structured_outputs` and `output_kind`.

    To vLLM the `saved` tokens are prompt, so what counts generated tokens counts the fewer. A
    structured output's arguments stand under `structured`, or None.
    """
    arguments = asdict(sampling)
    structured = arguments.pop("structured")
    return arguments | {
        "stop": list(sampling.stop),
        "max_tokens": sampling.max_tokens - saved,
        "min_tokens": max(0, sampling.min_tokens - saved),
        "structured": structured and {k: v for k, v in structured.items() if v is not None},
    }


def positions(logprobs: Any, asked: int | None) -> tuple[PositionLogprobs, ...] | None:
    """vLLM's logprobs, a dictionary a token with the drawn one first, in a form of our own."""
    if asked is None or logprobs is None:
        return None
    return tuple(_position(entry, asked) for entry in logprobs)


def _position(entry: Any, asked: int) -> PositionLogprobs:
    tokens = [
        (found.rank, TokenLogprob(found.decoded_token or "", token_id, found.logprob))
        for token_id, found in entry.items()
    ]
    drawn = tokens[0][1]
    top = sorted((one for one in tokens if one[0] <= asked), key=lambda one: one[0])
    return PositionLogprobs(
        drawn.token, drawn.token_id, drawn.logprob, tuple(token for _, token in top)
    )
