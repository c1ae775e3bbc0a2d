"""Bare vLLM over the same prompts: one `LLM.generate` call, as its documentation shows it.

Run as a process of its own by the benchmark; prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("prompts", type=Path, help="JSON list of prompts")
    parser.add_argument("arguments", help="JSON of LLM(...) arguments")
    parser.add_argument("--max-tokens", type=int, default=128)
    asked = parser.parse_args()
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "HF_HUB_OFFLINE": "1",
    }
    prompts: list[str] = json.loads(asked.prompts.read_text())

    started = time.monotonic()
    from vllm import LLM, SamplingParams

    llm = LLM(**json.loads(asked.arguments), disable_log_stats=False, use_tqdm_on_load=False)
    loaded = time.monotonic()
    outputs = llm.generate(
        prompts, SamplingParams(temperature=0.0, max_tokens=asked.max_tokens), use_tqdm=False
    )
    finished = time.monotonic()

    counters: dict[str, Any] = {metric.name: metric for metric in llm.get_metrics()}
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    document = {
        "load_seconds": loaded - started,
        "generate_seconds": finished - loaded,
        "output_tokens": sum(map(len, tokens)),
        "draft_proposed": _value(counters, "vllm:spec_decode_num_draft_tokens"),
        "draft_accepted": _value(counters, "vllm:spec_decode_num_accepted_tokens"),
        "tokens": tokens,
    }
    print(json.dumps(document))
    sys.stdout.flush()
    os._exit(0)


def _value(counters: dict[str, Any], name: str) -> int:
    return int(getattr(counters.get(name), "value", 0))


if __name__ == "__main__":
    main()
