"""From a row to the engine's request, and from its answer to the finished row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from pipeline.core.errors import RowRejected
from pipeline.core.ports import ShardInput
from pipeline.core.rows import Completion, FinishedRow, Prompt, Request

# vLLM's other reasons ("abort", "error") are its own failures, not ends of an answer.
_ANSWERED = frozenset({"stop", "length", "repetition"})

Encode: TypeAlias = Callable[[Prompt], tuple[int, ...]]
Prepared: TypeAlias = Request | FinishedRow
Line: TypeAlias = deque[tuple[int, Prepared]]
"""Rows that wait for the engine."""


def prepare(
    row: int, request_id: str, rows: ShardInput, saved: tuple[int, ...], seed: int, encode: Encode
) -> Prepared:
    """The engine request of a row, or the row finished with its error.

    `seed` is for a row that would be drawn anew after an interruption and has none: drawn with
    other luck, short answers would be too many, since they get finished in between.
    """
    try:
        sampling = rows.sampling(row)
        tokens = encode(rows.prompt(row))
    except RowRejected as problem:
        return FinishedRow(row, error=str(problem))
    if sampling.continues_exactly:
        return Request(request_id, tokens, sampling, saved)
    if sampling.seed is None:
        sampling = replace(sampling, seed=seed)
    return Request(request_id, tokens, sampling)


def finished_row(row: int, request: Request, completion: Completion) -> FinishedRow:
    """What the engine's answer to a row's request makes of the row."""
    if completion.finish_reason not in _ANSWERED:
        return FinishedRow(row, error=f"the engine gave up: {completion.finish_reason}")
    return FinishedRow(
        row,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=len(request.prompt_token_ids),
        completion_tokens=len(completion.token_ids),
        # A continued request's cache hits may cover saved tokens, which are no prompt.
        cached_tokens=min(completion.cached_tokens, len(request.prompt_token_ids)),
        logprobs=completion.logprobs,
    )
