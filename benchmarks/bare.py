"""Bare vLLM over the same rows: one `LLM.generate` call, as its documentation shows it.

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
    parser = argparse.ArgumentParser(prog="benchmarks.bare")
    parser.add_argument(
        "rows", type=Path, help="JSON list of rows, with prompt, max_tokens, min_tokens"
    )
    parser.add_argument("arguments", help="JSON of LLM(...) arguments")
    parser.add_argument("--in-process", action="store_true", help="no process for the engine")
    parser.add_argument("--tokens", action="store_true", help="print every token of every answer")
    asked = parser.parse_args()
    if asked.in_process:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    rows: list[dict[str, Any]] = json.loads(asked.rows.read_text())

    started = time.monotonic()
    from vllm import LLM, SamplingParams

    llm = LLM(**json.loads(asked.arguments), use_tqdm_on_load=False)
    loaded = time.monotonic()
    outputs = llm.generate(
        [row["prompt"] for row in rows],
        [
            SamplingParams(
                temperature=0.0, max_tokens=row["max_tokens"], min_tokens=row["min_tokens"]
            )
            for row in rows
        ],
        use_tqdm=False,
    )
    finished = time.monotonic()

    counters: dict[str, Any] = {metric.name: metric for metric in llm.get_metrics()}
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    document = {
        "load_seconds": loaded - started,
        "generate_seconds": finished - loaded,
        "answered_at": finished,
        "output_tokens": sum(map(len, tokens)),
        "draft_proposed": _value(counters, "vllm:spec_decode_num_draft_tokens"),
        "draft_accepted": _value(counters, "vllm:spec_decode_num_accepted_tokens"),
        "tokens": tokens if asked.tokens else None,
    }
    print(json.dumps(document))
    sys.stdout.flush()
    # An engine in this process takes seconds to take itself apart.
    if asked.in_process:
        os._exit(0)


def _value(counters: dict[str, Any], name: str) -> int:
    return int(getattr(counters.get(name), "value", 0))


if __name__ == "__main__":
    main()
