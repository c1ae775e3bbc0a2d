"""The engine's figures, from the counters that vLLM keeps in this process anyway.

They cost no row anything; where there is no vLLM, there are none. Their buckets are vLLM's, which
are not those the conventions recommend: what was not kept cannot be told.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from prometheus_client import REGISTRY, CollectorRegistry

from pipeline.metrics.figures import Distribution, Figure, known, share

_COUNTERS = {
    "vllm:num_preemptions": "spotmill.engine.preemptions",
    "vllm:prefix_cache_queries": "spotmill.engine.prefix_cache.queries",
    "vllm:prefix_cache_hits": "spotmill.engine.prefix_cache.hits",
    "vllm:spec_decode_num_draft_tokens": "spotmill.engine.drafts.proposed",
    "vllm:spec_decode_num_accepted_tokens": "spotmill.engine.drafts.accepted",
}
_ROWS = {"vllm:num_requests_running": "running", "vllm:num_requests_waiting": "waiting"}
_KV = "vllm:kv_cache_usage_perc"
_TYPE = "gen_ai.token.type"
_DISTRIBUTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "vllm:request_prompt_tokens": ("gen_ai.client.token.usage", {_TYPE: "input"}),
    "vllm:request_generation_tokens": ("gen_ai.client.token.usage", {_TYPE: "output"}),
    "vllm:e2e_request_latency_seconds": ("gen_ai.client.operation.duration", {}),
    "vllm:time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", {}),
    "vllm:request_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", {}),
}
_WANTED = [
    *(f"{name}_total" for name in _COUNTERS),
    *_ROWS,
    _KV,
    *(f"{name}_{part}" for name in _DISTRIBUTIONS for part in ("bucket", "sum")),
]


def engine_figures(registry: CollectorRegistry = REGISTRY) -> list[Figure]:
    """Since this process began, over all engines it had. Any thread may ask."""
    sums: defaultdict[str, float] = defaultdict(float)
    fullest: dict[str, float] = {}
    below: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for family in registry.restricted_registry(_WANTED).collect():
        for sample in family.samples:
            if "le" in sample.labels:
                below[family.name][float(sample.labels["le"])] += sample.value
            else:
                sums[sample.name] += sample.value
                fullest[sample.name] = max(sample.value, fullest.get(sample.name, 0.0))
    counted = {
        ours: round(sums[f"{theirs}_total"])
        for theirs, ours in _COUNTERS.items()
        if f"{theirs}_total" in sums
    }
    proposed, accepted = (counted.get(f"spotmill.engine.drafts.{w}", 0) for w in _DRAFTS)
    return [
        *(
            Figure(name, _distribution(below[theirs], sums[f"{theirs}_sum"]), labels)
            for theirs, (name, labels) in _DISTRIBUTIONS.items()
            if theirs in below
        ),
        *(Figure(name, count) for name, count in counted.items()),
        *(
            Figure("spotmill.engine.rows", round(sums[name]), {"spotmill.state": state})
            for name, state in _ROWS.items()
            if name in sums
        ),
        *known("spotmill.engine.kv_cache.usage", fullest.get(_KV)),
        *known("spotmill.engine.drafts.acceptance", share(accepted, proposed)),
    ]


_DRAFTS = ("proposed", "accepted")


def _distribution(below: dict[float, float], total: float) -> Distribution:
    bounds = sorted(below)
    counts = [0, *(round(below[bound]) for bound in bounds)]
    within = tuple(after - before for before, after in pairwise(counts))
    return Distribution(tuple(bounds[:-1]), within, total)
