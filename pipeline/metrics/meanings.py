"""Every figure's name, kind, unit and meaning, said once; `docs/metrics.md` is the page of it.

Where OpenTelemetry's conventions for generative AI have a name, it is used as they say (v0.1.0 of
`semantic-conventions-genai`, in development: `client-inference` and `gen-ai-metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "updown", "gauge", "histogram"]
"""A counter only grows; an updown is a sum that may fall: useful seconds may have been wasted after
all, and a worker that left a shard behind may turn out to have failed by itself."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """`unit` is UCUM's, with what UCUM does not know in braces."""

    kind: Kind
    unit: str
    help: str


_TOKEN, _ROW, _SHARD, _USD = "{token}", "{row}", "{shard}", "{USD}"

_CONVENTIONAL = {
    "gen_ai.client.inference.operation.input_tokens": Meaning(
        "histogram", _TOKEN, "Input tokens of each row the engine answered"
    ),
    "gen_ai.client.inference.operation.output_tokens": Meaning(
        "histogram", _TOKEN, "Output tokens of each row the engine answered"
    ),
    "gen_ai.client.inference.duration": Meaning(
        "histogram", "s", "Seconds from giving the engine a row to its answer"
    ),
    "gen_ai.server.time_to_first_token": Meaning(
        "histogram", "s", "Seconds from giving the engine a row to its first token"
    ),
    "gen_ai.server.time_per_output_token": Meaning(
        "histogram", "s", "Seconds for each token of a row after its first"
    ),
    "gen_ai.client.inference.usage.input_tokens": Meaning(
        "counter", _TOKEN, "Prompt tokens of published rows, cached ones included"
    ),
    "gen_ai.client.inference.usage.output_tokens": Meaning(
        "counter", _TOKEN, "Completion tokens of published rows"
    ),
    "gen_ai.client.inference.usage.cache_read.input_tokens": Meaning(
        "counter", _TOKEN, "Prompt tokens of published rows that the prefix cache answered for"
    ),
    "hw.gpu.utilization": Meaning("gauge", "1", "Share of the last moments that the GPU worked"),
    "hw.gpu.memory.utilization": Meaning("gauge", "1", "Share of the GPU's memory in use"),
}

_OF_WORKERS = {
    "spotmill.worker.seconds": Meaning("updown", "s", "The session's seconds by bucket"),
    "spotmill.worker.useful": Meaning("gauge", "1", "Useful share of the session's seconds"),
    "spotmill.worker.cost": Meaning("counter", _USD, "What the session has cost so far, in USD"),
    "spotmill.worker.rows": Meaning("counter", _ROW, "Rows the session finished"),
    "spotmill.worker.tokens.decoded": Meaning("counter", _TOKEN, "Tokens the session decoded"),
    "spotmill.worker.shards": Meaning("gauge", _SHARD, "Shards the session holds"),
    "spotmill.engine.rows": Meaning("gauge", _ROW, "Rows running and waiting in the engine"),
    "spotmill.engine.preemptions": Meaning(
        "counter", "{preemption}", "Rows that the engine put back because its KV cache was full"
    ),
    "spotmill.engine.kv_cache.usage": Meaning("gauge", "1", "Share of the KV cache in use"),
    "spotmill.engine.prefix_cache.queries": Meaning(
        "counter", _TOKEN, "Prompt tokens looked for in the prefix cache"
    ),
    "spotmill.engine.prefix_cache.hits": Meaning(
        "counter", _TOKEN, "Prompt tokens found in the prefix cache"
    ),
    "spotmill.engine.drafts.proposed": Meaning("counter", _TOKEN, "Tokens drafted"),
    "spotmill.engine.drafts.accepted": Meaning("counter", _TOKEN, "Drafted tokens that were kept"),
    "spotmill.engine.drafts.acceptance": Meaning(
        "gauge", "1", "Share of drafted tokens that were kept so far"
    ),
}

_OF_RUNS = {
    "spotmill.cost": Meaning(
        "counter", _USD, "What all sessions of the run have cost so far, in USD"
    ),
    "spotmill.cost.per_1k_output_tokens": Meaning(
        "gauge", _USD, "Cost so far of 1,000 output tokens that are not known to be wasted, in USD"
    ),
    "spotmill.goodput": Meaning(
        "gauge", "1", "Output tokens that are not known to be wasted over all that were decoded"
    ),
    "spotmill.goodput.useful": Meaning("gauge", "1", "Useful share of all seconds paid for"),
    "spotmill.goodput.rate": Meaning(
        "gauge",
        "{token}/s",
        "Output tokens not known to be wasted for each second of a worker paid for",
    ),
    "spotmill.tokens.wasted": Meaning(
        "counter", _TOKEN, "Tokens decoded and known to be in no published row"
    ),
    "spotmill.preemptions": Meaning(
        "updown",
        "{worker}",
        "Workers that drained or vanished with a shard in hand; known when it is published",
    ),
    "spotmill.attempts": Meaning("counter", "{attempt}", "Attempts on published shards by end"),
    "spotmill.workers": Meaning("gauge", "{worker}", "Sessions by the state they last told"),
    "spotmill.shards.published": Meaning("counter", _SHARD, "Shards published"),
    "spotmill.rows.published": Meaning("counter", _ROW, "Rows published"),
    "spotmill.rows.errors": Meaning("counter", _ROW, "Rows published with an error"),
    "spotmill.queue.shards": Meaning("gauge", _SHARD, "Shards not yet published"),
    "spotmill.queue.unclaimed": Meaning("gauge", _SHARD, "Shards no session holds or published"),
    "spotmill.queue.rows": Meaning("gauge", _ROW, "Planned rows of shards not yet published"),
    "spotmill.drafts.acceptance": Meaning(
        "gauge", "1", "Share of drafted tokens that were kept, in published shards"
    ),
    "spotmill.prefix_cache.hits": Meaning(
        "gauge", "1", "Share of published rows' prompt tokens found in the prefix cache"
    ),
    "spotmill.complete": Meaning("gauge", "{run}", "1 when the run's books are closed"),
}

MEANINGS = _CONVENTIONAL | _OF_WORKERS | _OF_RUNS
