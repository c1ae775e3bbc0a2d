"""datatrove's InferenceRunner: documents through a `vllm serve` that it starts, over HTTP.

Its default of 500 requests at once; asked whether the server is ready every half second instead of
every five, so that its start is not charged with waiting.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.servers import VLLMServer
from datatrove.pipeline.writers import JsonlWriter

from benchmarks.peers.spec import answer, read_spec

_began: list[float] = []
_ended: list[float] = [0.0]


def note_readiness() -> None:
    """Documents are asked for while the server still starts, which is no generating."""
    inner = VLLMServer._wait_until_ready

    async def noted(self: Any, *arguments: Any, **named: Any) -> None:
        await inner(self, *arguments, **named)
        _began.append(time.monotonic())

    VLLMServer._wait_until_ready = noted


async def ask(document: Document, generate: Callable[[dict[str, Any]], Awaitable[Any]]) -> Any:
    result = await generate(
        {
            "prompt": document.text,
            "max_tokens": document.metadata["max_tokens"],
            "temperature": 0.0,
        }
    )
    _ended[0] = time.monotonic()
    return result


def main() -> None:
    spec = read_spec()
    note_readiness()
    engine = dict(spec.engine)
    context = engine.pop("max_model_len")
    documents = [
        Document(text=row["prompt"], id=str(n), metadata={"max_tokens": row["max_tokens"]})
        for n, row in enumerate(spec.rows)
    ]
    config = InferenceConfig(
        server_type="vllm",
        model_name_or_path=spec.model,
        model_max_context=context,
        use_chat=False,
        max_concurrent_generations=max(500, spec.in_flight),
        model_kwargs={name.replace("_", "-"): value for name, value in engine.items()},
        server_ready_delay_sec=0.5,
        server_ready_max_attempts=600,
        server_log_folder=str(spec.folder / "server"),
    )
    out = spec.folder / "datatrove"
    runner = InferenceRunner(
        rollout_fn=ask,
        config=config,
        output_writer=JsonlWriter(
            str(out), output_filename="${rank}_${chunk_index}.jsonl", compression=None
        ),
        checkpoints_local_dir=str(spec.folder / "checkpoints"),
        records_per_chunk=max(1, len(documents) // 50),
    )
    LocalPipelineExecutor(
        pipeline=[documents, runner], logging_dir=str(spec.folder / "logs"), tasks=1
    ).run()
    written = [
        json.loads(line)
        for path in sorted(out.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    results = [entry["metadata"]["rollout_results"][0] for entry in written]
    tokens = sum(result["usage"]["completion_tokens"] for result in results)
    answer(len(results), tokens, _ended[0] - _began[-1] if _began else None)


if __name__ == "__main__":
    main()
