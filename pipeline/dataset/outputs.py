"""The columns that answers add to the carried ones."""

from __future__ import annotations

import pyarrow as pa

from pipeline.job import SamplingSpec

ROW_KEY = "spotmill_row"
"""A row's number in the whole input, from 0, where shards are not in the input's order."""
OUTPUT_SCHEMA = pa.schema(
    [
        pa.field("completion", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("error", pa.string()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("cached_tokens", pa.int64()),
    ]
)
_TOKEN = [
    pa.field("token", pa.string()),
    pa.field("token_id", pa.int32()),
    pa.field("logprob", pa.float32()),
]
LOGPROBS = pa.field(
    "logprobs", pa.list_(pa.struct([*_TOKEN, pa.field("top", pa.list_(pa.struct(_TOKEN)))]))
)


def output_schema(sampling: SamplingSpec) -> pa.Schema:
    """With a column of logprobs where the job asks for them."""
    return OUTPUT_SCHEMA.append(LOGPROBS) if sampling.tells_logprobs else OUTPUT_SCHEMA
