"""The sample model in real vLLM, small and in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.core.ports import Engine
from pipeline.core.rows import Completion, Request
from pipeline.job import ModelSpec

TARGET = Path(__file__).resolve().parents[2] / "sample_data/models/target"
PROMPTS = [
    "Ticket:\nI was charged twice for order A12.\n\nTriage:\n",
    "Ticket:\nThe app crashes.\n\nTriage:\n",
    "Ticket:\nPlease cancel my plan, I wrote three times already.\n\nTriage:\n",
]


def float32(model: Path = TARGET, **engine: Any) -> ModelSpec:
    """In bf16, near-ties fall differently in batches of different make-up."""
    settings = {
        "dtype": "float32",
        "enforce_eager": True,
        "kv_cache_memory_bytes": 1 << 28,
        "max_num_seqs": 16,
    }
    return ModelSpec(id=str(model), max_model_len=512, engine=settings | engine)


def finish(engine: Engine) -> dict[str, Completion]:
    done: dict[str, Completion] = {}
    while engine.in_flight():
        done |= {completion.request_id: completion for completion in engine.step()}
    return done


def answers(engine: Engine, asked: list[Request]) -> dict[str, Completion]:
    for request in asked:
        engine.submit(request)
    return finish(engine)
