"""A run's figures, from its published shards' manifests and its workers' sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.core.manifest import Parting, partings, usd_of_tokens
from pipeline.core.money import MICROS_PER_SECOND, decimal_of, sum_of
from pipeline.core.preemption import taken_away
from pipeline.core.session import Session
from pipeline.metrics.figures import Figure, known, share

_USAGE = "gen_ai.client.inference.usage"
_MODALITY = {"gen_ai.token.modality": "text"}


@dataclass(slots=True)
class PublishedShards:
    """Sums over the manifests taken in so far. What is published never changes: each is taken once,
    and every sum only grows. `left` are workers that left before their work was done."""

    shards: set[int] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    left: set[Parting] = field(default_factory=set)

    def take(self, manifest: Mapping[str, Any]) -> None:
        if manifest["shard_id"] in self.shards:
            return
        self.shards.add(manifest["shard_id"])
        self.tokens.update(manifest["tokens"])
        for key in ("rows", "rows_error"):
            self.rows[key] += manifest["output"][key]
        self.ends.update(attempt["end"] for attempt in manifest["attempts"])
        self.left |= partings(manifest["attempts"])


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A run's output tokens: `kept` of all that were `paid` for, which are as many as were decoded;
    `output` has the copied answers of identical requests too."""

    output: int
    kept: int
    paid: int

    @property
    def wasted(self) -> int:
        return self.paid - self.kept

    @staticmethod
    def so_far(published: Mapping[str, int], sessions: Iterable[Session]) -> _Decoded:
        """Work in hand counts as kept until it is known to be wasted: large shards are published
        late in a night, and until then their tokens would seem to cost all that others do."""
        kept = published["output"] - published["copied"]
        wasted, decoded = published["wasted"], 0
        for session in sessions:
            wasted += session.unshared
            decoded += session.decoded
        # A worker that died may have saved more than its last beat told of.
        paid = max(decoded, kept + wasted)
        return _Decoded(paid - wasted + published["copied"], paid - wasted, paid)

    @staticmethod
    def in_all(tokens: Mapping[str, int]) -> _Decoded:
        """By the manifest of a run whose books are closed."""
        output = tokens.get("output", 0)
        kept = output - tokens.get("copied", 0)
        return _Decoded(output, kept, kept + tokens.get("wasted", 0))


def run_figures(
    planned: Mapping[int, int],
    published: PublishedShards,
    sessions: Mapping[str, Session],
    closed: Mapping[str, Any] | None = None,
) -> list[Figure]:
    """`planned` has the rows of each shard. Once `closed`, the run's manifest says what it cost, of
    which tokens, and who was preempted."""
    tokens = published.tokens
    open_shards = planned.keys() - published.shards
    held = {shard for s in sessions.values() if not s.over for shard in s.shards}
    states: Mapping[str, str]
    if closed is None:
        usd = _usd_so_far(sessions.values())
        decoded = _Decoded.so_far(tokens, sessions.values())
        states = {name: session.state for name, session in sessions.items()}
    else:
        usd = decimal_of(closed["cost"]["total"])
        decoded = _Decoded.in_all(closed["tokens"])
        states = {row["worker_id"]: row["state"] for row in closed["workers"]}
    taken = taken_away(published.left, states, over=closed is not None)
    return [
        Figure(f"{_USAGE}.input_tokens", tokens["input"], _MODALITY),
        Figure(f"{_USAGE}.output_tokens", tokens["output"], _MODALITY),
        Figure(f"{_USAGE}.cache_read.input_tokens", tokens["cached_input"], _MODALITY),
        *known("spotmill.cost", usd),
        *known("spotmill.cost.per_1k_output_tokens", usd_of_tokens(1_000, usd, decoded.output)),
        *_goodput(decoded, sessions.values()),
        Figure("spotmill.tokens.wasted", decoded.wasted),
        Figure("spotmill.preemptions", len(taken)),
        *(
            Figure("spotmill.attempts", count, {"spotmill.end": end})
            for end, count in sorted(published.ends.items())
        ),
        *(
            Figure("spotmill.workers", count, {"spotmill.state": state})
            for state, count in sorted(Counter(s.state for s in sessions.values()).items())
        ),
        Figure("spotmill.shards.published", len(published.shards)),
        Figure("spotmill.rows.published", published.rows["rows"]),
        Figure("spotmill.rows.errors", published.rows["rows_error"]),
        Figure("spotmill.queue.shards", len(open_shards)),
        Figure("spotmill.queue.unclaimed", len(open_shards - held)),
        Figure("spotmill.queue.rows", sum(planned[shard] for shard in open_shards)),
        *known(
            "spotmill.drafts.acceptance", share(tokens["draft_accepted"], tokens["draft_proposed"])
        ),
        *known("spotmill.prefix_cache.hits", share(tokens["cached_input"], tokens["input"])),
        Figure("spotmill.complete", int(closed is not None)),
    ]


def _usd_so_far(sessions: Collection[Session]) -> Decimal | None:
    """A session that did not tell its price yet, and may never, is in no sum of the books' either;
    where there are no others, nobody knows what was spent."""
    told = [session.usd for session in sessions if not session.untold]
    return None if sessions and not told else sum_of(told)


def _goodput(decoded: _Decoded, sessions: Collection[Session]) -> list[Figure]:
    micros = sum(session.buckets.total for session in sessions)
    useful = sum(session.buckets.useful for session in sessions)
    return [
        *known("spotmill.goodput", share(decoded.kept, decoded.paid)),
        *known("spotmill.goodput.useful", share(useful, micros)),
        *known("spotmill.goodput.rate", share(decoded.output * MICROS_PER_SECOND, micros)),
    ]
