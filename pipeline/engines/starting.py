"""How vLLM is started: its environment and its arguments."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from pipeline.engines.draft_switch import DRAFT_SWITCH
from pipeline.job import ModelSpec

_QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "TOKENIZERS_PARALLELISM": "false",
    # So that a core process that crashes in a kernel says where.
    "PYTHONFAULTHANDLER": "1",
}


def set_environment(model: ModelSpec, *, own_process: bool) -> None:
    """Before vLLM is imported, and before every engine is made. What is set is kept."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # A path, be its files still on their way: hub ids and URIs begin otherwise.
    if Path(model.id).is_absolute():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # vLLM 0.32's own use of a name that torch 2.13 deprecates; nobody here can act on it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\..*")
    # Not kept, since another engine may come after this one.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(own_process))


def arguments(model: ModelSpec) -> dict[str, Any]:
    """What `LLM` takes."""
    chosen: dict[str, Any] = {
        "model": model.id,
        "revision": model.revision,
        "max_model_len": model.max_model_len,
        "load_format": "safetensors",
        "disable_log_stats": False,
        "use_tqdm_on_load": False,
        "seed": 0,
    }
    if model.quantization not in ("auto", "none"):
        chosen["quantization"] = model.quantization
    if model.speculative.method != "none":
        # As JSON, since vLLM wants lists.
        chosen["speculative_config"] = model.speculative.settings()
        chosen["worker_extension_cls"] = DRAFT_SWITCH
    return chosen | model.engine
