"""A run's figures, from its published shards' manifests and its workers' sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.manifest import usd_of_tokens
from pipeline.core.money import MICROS_PER_SECOND, decimal_of, sum_of
from pipeline.core.session import Session
from pipeline.metrics.figures import Figure, known, share

_TAKEN = frozenset({"drained", "lost"})
_USAGE = "gen_ai.client.inference.usage"
_MODALITY = {"gen_ai.token.modality": "text"}


@dataclass(slots=True)
class PublishedShards:
    """Sums over the manifests taken in so far. What is published never changes: each is taken once,
    and every sum only grows."""

    shards: set[int] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)

    def take(self, manifest: Mapping[str, Any], failed: Collection[str] = ()) -> None:
        """`failed` are sessions that were not taken away, but gave up by themselves."""
        if manifest["shard_id"] in self.shards:
            return
        self.shards.add(manifest["shard_id"])
        self.tokens.update(manifest["tokens"])
        for key in ("rows", "rows_error"):
            self.rows[key] += manifest["output"][key]
        for attempt in manifest["attempts"]:
            self.ends[attempt["end"]] += 1
            if attempt["end"] in _TAKEN and attempt["worker_id"] not in failed:
                self.taken.add(attempt["worker_id"])


def run_figures(
    planned: Mapping[int, int],
    published: PublishedShards,
    sessions: Mapping[str, Session],
    closed: Mapping[str, Any] | None = None,
) -> list[Figure]:
    """`planned` has the rows of each shard. Once `closed`, the run's manifest says what it cost."""
    tokens = published.tokens
    open_shards = planned.keys() - published.shards
    held = {shard for s in sessions.values() if not s.over for shard in s.shards}
    usd = sum_of(session.bill.usd for session in sessions.values())
    if closed is not None:
        usd = decimal_of(closed["cost"]["total"])
    return [
        Figure(f"{_USAGE}.input_tokens", tokens["input"], _MODALITY),
        Figure(f"{_USAGE}.output_tokens", tokens["output"], _MODALITY),
        Figure(f"{_USAGE}.cache_read.input_tokens", tokens["cached_input"], _MODALITY),
        *known("spotmill.cost", usd),
        *known("spotmill.cost.per_1k_output_tokens", usd_of_tokens(1_000, usd, tokens["output"])),
        *_goodput(tokens, sessions),
        Figure("spotmill.tokens.wasted", tokens["wasted"]),
        Figure("spotmill.preemptions", len(published.taken)),
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


def _goodput(tokens: Mapping[str, int], sessions: Mapping[str, Session]) -> list[Figure]:
    micros = sum(session.buckets.total for session in sessions.values())
    useful = sum(session.buckets.useful for session in sessions.values())
    # Copied answers were decoded once, for another row.
    kept = tokens["output"] - tokens["copied"]
    # A worker that died may have saved more than its last beat told of.
    decoded = max(sum(s.decoded for s in sessions.values()), kept + tokens["wasted"])
    rate = share(tokens["output"] * MICROS_PER_SECOND, micros)
    return [
        *known("spotmill.goodput", share(kept, decoded)),
        *known("spotmill.goodput.useful", share(useful, micros)),
        *known("spotmill.goodput.rate", rate),
    ]
