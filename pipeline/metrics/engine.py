"""The engine's figures, from the counters that vLLM keeps in this process anyway.

They cost no row anything; where there is no vLLM, there are none. Their buckets are vLLM's, which
are not those the conventions recommend: what was not kept cannot be told.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TypeAlias

from prometheus_client import REGISTRY, CollectorRegistry, Metric

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
_DISTRIBUTIONS = {
    "vllm:request_prompt_tokens": "gen_ai.client.inference.operation.input_tokens",
    "vllm:request_generation_tokens": "gen_ai.client.inference.operation.output_tokens",
    "vllm:e2e_request_latency_seconds": "gen_ai.client.inference.duration",
    "vllm:time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
    "vllm:request_time_per_output_token_seconds": "gen_ai.server.time_per_output_token",
}
_WANTED = [
    *(f"{name}_{part}" for name in _COUNTERS for part in ("total", "created")),
    *_ROWS,
    _KV,
    *(f"{name}_{part}" for name in _DISTRIBUTIONS for part in ("bucket", "sum", "created")),
]
_SUM = "sum"
_CREATED = "_created"
_Values: TypeAlias = dict[float | str, float]
"""A counter's value, or a histogram's: what lies below each bound, and the sum."""


class EngineCounts:
    """What vLLM counted in this process, over all engines it had: an engine's counters end with it,
    and another's begin at nothing. Asked from one thread."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._last: dict[str, _Values] = {}
        self._begun: dict[str, float] = {}
        self._ended: dict[str, _Values] = {}

    def figures(self) -> list[Figure]:
        """Counters among them never fall."""
        found: dict[str, Metric] = {
            family.name: family for family in self._registry.restricted_registry(_WANTED).collect()
        }
        counted = {
            ours: round(values[theirs])
            for theirs, ours in _COUNTERS.items()
            if (values := self._grown(theirs, found))
        }
        proposed, accepted = (counted.get(f"spotmill.engine.drafts.{w}", 0) for w in _DRAFTS)
        return [
            *(
                Figure(ours, _distribution(values))
                for theirs, ours in _DISTRIBUTIONS.items()
                if (values := self._grown(theirs, found))
            ),
            *(Figure(name, count) for name, count in counted.items()),
            *(
                Figure("spotmill.engine.rows", round(sum(_of(found[name]))), {_STATE: state})
                for name, state in _ROWS.items()
                if name in found
            ),
            *known("spotmill.engine.kv_cache.usage", max(_of(found.get(_KV)), default=None)),
            *known("spotmill.engine.drafts.acceptance", share(accepted, proposed)),
        ]

    def _grown(self, name: str, found: dict[str, Metric]) -> _Values:
        """Of the engine at hand, and of those before it."""
        now = _values(found[name]) if name in found else {}
        begun = _begun(found.get(name))
        last = self._last.get(name, {})
        # Who has grown beyond it already is known by its age alone, where ages are kept.
        fell = any(now.get(part, 0.0) < value for part, value in last.items())
        if fell or begun > self._begun.get(name, begun):
            # Each family by itself, for they go and come one after the other.
            self._ended[name] = _together(self._ended.get(name, {}), last)
        self._last[name], self._begun[name] = now, begun
        return _together(self._ended.get(name, {}), now)


_DRAFTS = ("proposed", "accepted")
_STATE = "spotmill.state"


def _values(family: Metric) -> _Values:
    """Over all engines that a family has labels of."""
    found: defaultdict[float | str, float] = defaultdict(float)
    for sample in family.samples:
        if sample.name.endswith(_CREATED):
            continue
        if (bound := sample.labels.get("le")) is not None:
            found[float(bound)] += sample.value
        else:
            found[_SUM if sample.name.endswith("_sum") else family.name] += sample.value
    return dict(found)


def _begun(family: Metric | None) -> float:
    """When its oldest part was made; 0.0 where nobody knows."""
    return min(_of(family, _CREATED), default=0.0)


def _of(family: Metric | None, ending: str = "") -> list[float]:
    samples = [] if family is None else family.samples
    return [sample.value for sample in samples if sample.name.endswith(ending)]


def _together(one: _Values, other: _Values) -> _Values:
    return {part: one.get(part, 0.0) + other.get(part, 0.0) for part in one | other}


def _distribution(values: _Values) -> Distribution:
    bounds = sorted(bound for bound in values if isinstance(bound, float))
    counts = [0, *(round(values[bound]) for bound in bounds)]
    within = tuple(after - before for before, after in pairwise(counts))
    return Distribution(tuple(bounds[:-1]), within, values.get(_SUM, 0.0))
