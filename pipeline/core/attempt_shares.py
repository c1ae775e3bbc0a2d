"""What each attempt has of the rows and tokens that its shard published.

A manifest has its shard's, and what each attempt did, some of which may be in no published row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.core.money import share_out
from pipeline.core.rows import TokenCounts


class AttemptShare(NamedTuple):
    """An attempt's part of its shard's rows and tokens."""

    rows: int
    tokens: TokenCounts


def shares_of_attempts(manifest: Mapping[str, Any]) -> list[AttemptShare]:
    """In the order of a shard's attempts; they add up to its `output.rows` and its `tokens`.

    Of rows published and tokens put in, by the rows each finished; of tokens published, by what it
    decoded; of those wasted, by what it is known to have wasted. Where nobody is known to have done
    any of it, the last attempt has all, which published.
    """
    attempts, tokens = manifest["attempts"], manifest["tokens"]
    if not attempts:
        return []
    own = [attempt["tokens"] for attempt in attempts]
    finished = [attempt["rows"] for attempt in attempts]
    decoded = [each["output"] for each in own]
    wasted = [each["wasted"] for each in own]
    rows = _shared(manifest["output"]["rows"], finished)
    given, cached = _shared(tokens["input"], finished), _shared(tokens["cached_input"], finished)
    output, lost = _shared(tokens["output"], decoded), _shared(tokens["wasted"], wasted, decoded)
    return [
        AttemptShare(
            rows[number],
            TokenCounts(
                input=given[number],
                cached_input=cached[number],
                output=output[number],
                draft_proposed=each["draft_proposed"],
                draft_accepted=each["draft_accepted"],
                wasted=lost[number],
                copied=each["copied"],
            ),
        )
        for number, each in enumerate(own)
    ]


def _shared(whole: int, *weightings: Sequence[int]) -> dict[int, int]:
    """By the first weights that are not all 0."""
    last = len(weightings[0]) - 1
    only_last = [int(number == last) for number in range(last + 1)]
    weights = next(filter(any, weightings), only_last)
    return share_out(whole, dict(enumerate(weights)))
