"""Ray Data LLM: `ray.data.llm.build_processor` over a dataset of the rows, one replica.

Templates and (de)tokenizing are left to vLLM, the cheaper of its documented ways here; batches of
64 with 8 at once keep more in flight than the engine runs (the default, 32 with 8, just fills it).
"""

from __future__ import annotations

from typing import Any

import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from benchmarks.peers.spec import answer, read_spec

_BATCH_ROWS, _BATCHES = 64, 8


def main() -> None:
    spec = read_spec()
    # Logical CPUs: its stages would wait for each other on a machine with two.
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    where: dict[str, Any] = (
        {"accelerator_type": None}
        if spec.on_gpu
        else {"placement_group_config": {"bundles": [{"CPU": 1}]}}
    )
    processor = build_processor(
        vLLMEngineProcessorConfig(
            model_source=spec.model,
            engine_kwargs=spec.engine,
            concurrency=1,
            batch_size=_BATCH_ROWS,
            max_concurrent_batches=max(_BATCHES, -(-spec.in_flight // _BATCH_ROWS)),
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            **where,
        ),
        preprocess=lambda row: {
            "prompt": row["prompt"],
            "sampling_params": {
                "temperature": 0.0,
                "max_tokens": int(row["max_tokens"]),
            },
        },
        postprocess=lambda row: {
            "text": row["generated_text"],
            "tokens": row["num_generated_tokens"],
        },
    )
    # By default, every row would be a block of its own.
    blocks = max(1, len(spec.rows) // _BATCH_ROWS)
    dataset = processor(ray.data.from_items(spec.rows, override_num_blocks=blocks))
    rows = tokens = 0
    for batch in dataset.iter_batches(batch_size=None):
        rows += len(batch["tokens"])
        tokens += int(sum(batch["tokens"]))
    # Neither loading nor the first request are told by it from outside.
    answer(rows, tokens, None)


if __name__ == "__main__":
    main()
