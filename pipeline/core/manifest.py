"""What a shard cost and how it was made, as a JSON document (DESIGN §10).

It is a fold over what is stored. Seconds are floats with microseconds, money is a decimal string
so that no reader rounds it by accident, and null money means an unknown price. Of version 2 on,
`per_1m_tokens` is the cost of a million tokens of both kinds; it was that of output tokens alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Any, TypeAlias

from pipeline.core.checkpoint import Attempt
from pipeline.core.money import (
    DOLLAR_GRAIN,
    decimal_text,
    dollars,
    sum_of,
)
from pipeline.core.poison import Strike
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.shards import Shard
from pipeline.core.spans import Span

SCHEMA_VERSION = 2
FOOTER_KEY = "spotmill.manifest"
CURRENCY = "USD"
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a manifest says of a run beside numbers: the same for every shard of it."""

    run_id: str
    job_fingerprint: str
    model: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(slots=True)
class _Count:
    """What is counted of rows while somebody else goes through them."""

    rows: int = 0
    errors: int = 0
    output_squared: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def passing(self, rows: Iterable[FinishedRow]) -> Iterator[FinishedRow]:
        for row in rows:
            self.rows += 1
            self.errors += row.error is not None
            self.output_squared += row.completion_tokens**2
            self.reasons[row.finish_reason or "error"] += 1
            yield row


def shard_manifest(
    provenance: Provenance,
    shard: Shard,
    output_uri: str,
    rows: Iterable[FinishedRow],
    attempts: Sequence[Attempt],
    quarantined: Mapping[int, Sequence[Strike]] = MappingProxyType({}),
) -> Json:
    """The manifest of one shard: `rows` are all of it, gone through once, `attempts` all that
    worked on it.

    `quarantined` are the rows given up, and the engine deaths that are the evidence.
    """
    count = _Count()
    tokens = _tokens_of(count.passing(rows), attempts)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": provenance.run_id,
        "shard_id": shard.id,
        "job_fingerprint": provenance.job_fingerprint,
        "input": {
            "uri": shard.uri,
            "etag": shard.etag,
            "row_groups": list(shard.row_groups),
            "first_row": shard.first_row,
            "rows": shard.rows,
            "rows_selected": count.rows,
        },
        "output": {
            "uri": output_uri,
            "rows": count.rows,
            "rows_ok": count.rows - count.errors,
            "rows_error": count.errors,
            "finish_reasons": dict(sorted(count.reasons.items())),
        },
        "model": dict(provenance.model),
        # By it, whoever predicts a run knows what rows differ by, and not only shards.
        "tokens": {**asdict(tokens), "output_squared": count.output_squared},
        "attempts": [attempt.to_json() for attempt in attempts],
        "quarantined": [
            {"row": row, "strikes": [asdict(strike) for strike in strikes]}
            for row, strikes in quarantined.items()
        ],
        "cost": _shard_cost(attempts, tokens),
        "tags": dict(provenance.tags),
    }


def _tokens_of(rows: Iterable[FinishedRow], attempts: Iterable[Attempt]) -> TokenCounts:
    """A shard's tokens: what its rows hold, and of what was decoded, what is in none of them."""
    published = TokenCounts.of_rows(rows)
    paid = sum((attempt.tokens for attempt in attempts), TokenCounts())
    return TokenCounts(
        input=published.input,
        cached_input=published.cached_input,
        output=published.output,
        draft_proposed=paid.draft_proposed,
        draft_accepted=paid.draft_accepted,
        wasted=max(0, paid.output + paid.wasted + paid.copied - published.output),
        copied=paid.copied,
    )


def _shard_cost(attempts: Sequence[Attempt], tokens: TokenCounts) -> Json:
    spans = [span for attempt in attempts for span in attempt.spans]
    useful = sum_of(dollars(s.useful, price.usd_per_hour) for price, s in spans)
    wasted = sum_of(dollars(s.wasted, price.usd_per_hour) for price, s in spans)
    overhead = sum_of(dollars(s.overhead, price.usd_per_hour) for price, s in spans)
    on_demand = sum_of(dollars(s.total, price.on_demand_usd_per_hour) for price, s in spans)
    total = sum_of((useful, wasted, overhead))
    return {
        "currency": CURRENCY,
        "total": decimal_text(total),
        "useful": decimal_text(useful),
        "wasted": decimal_text(wasted),
        "overhead": decimal_text(overhead),
        **per_token(total, tokens.input, tokens.output),
        "on_demand_equivalent": decimal_text(on_demand),
        "savings": decimal_text(None if on_demand is None or total is None else on_demand - total),
    }


def per_token(total: Decimal | None, input_tokens: int, output_tokens: int) -> Json:
    """What tokens cost, all of `total` in it: `per_1k_output_tokens` is a thousand of those that
    came out, `per_1m_tokens` a million of both kinds, put in and come out. None where unknown."""
    both = input_tokens + output_tokens
    return {
        "per_1k_output_tokens": decimal_text(usd_of_tokens(1_000, total, output_tokens)),
        "per_1m_tokens": decimal_text(usd_of_tokens(1_000_000, total, both)),
    }


def usd_of_tokens(count: int, total: Decimal | None, tokens: int) -> Decimal | None:
    """What `count` of the `tokens` cost that cost `total` together."""
    if total is None or tokens == 0:
        return None
    return (total * count / tokens).quantize(DOLLAR_GRAIN, ROUND_HALF_EVEN)


def charged_usd(spans: Iterable[Span]) -> Decimal | None:
    """What a shard is charged with for an attempt's time, rounded as its cost is; None when a price
    of it is unknown."""
    return sum_of(
        dollars(micros, price.usd_per_hour)
        for price, buckets in spans
        for micros in (buckets.useful, buckets.wasted, buckets.overhead)
    )


Parting: TypeAlias = tuple[str, str]
"""A worker, and how an attempt of it ended early: `drained` or `lost`."""


def partings(attempts: Iterable[Mapping[str, Any]]) -> frozenset[Parting]:
    """Of attempts as manifests have them, those whose worker left: it was told (`drained`), or
    vanished (`lost`). A helper's end on a portion says nothing, for its last save hands over what
    it finished, and an owner takes back what it did not (decision 019).
    """
    return frozenset(
        (attempt["worker_id"], attempt["end"])
        for attempt in attempts
        if attempt["end"] in ("drained", "lost") and "portion" not in attempt
    )


def left_early(left: Iterable[Parting], states: Mapping[str, str]) -> frozenset[str]:
    """Of these workers, those that did not go by themselves; `states` has each session's. One that
    lost a shard and ended was taken for dead, and merely slow, like one that was `superseded`."""
    return frozenset(name for name, end in left if end == "drained" or states.get(name) != "ended")
