"""What an engine cannot do soundly, found out from the job alone, before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import EngineRefused
from pipeline.job import JobSpec

Device = Literal["cpu", "cuda"]

_UNSAFE_LOAD_FORMATS = frozenset({"pt", "npcache"})
_NEEDS_A_GPU = frozenset({"bitsandbytes", "gguf"})
_MADE_WHILE_LOADING = frozenset({"fp8", "bitsandbytes"})


def refuse_unsound(job: JobSpec, device: Device, model_config: Mapping[str, Any] | None) -> None:
    """Raises `EngineRefused` with the reason. `model_config` is config.json, if it is at hand."""
    _refuse_code_and_pickles(job.model.engine)
    _refuse_sampled_speculation(job, device)
    _refuse_quantization(job, device, model_config)


def local_model_config(model: str) -> Mapping[str, Any] | None:
    """config.json of a model on this disk; None when the model lies elsewhere. Raises
    `EngineRefused` for a path that holds no model."""
    if "://" in model or not model.startswith("/"):
        return None
    config = Path(model) / "config.json"
    if not config.is_file():
        raise EngineRefused(
            "there is no model here",
            where=model,
            why="no config.json" if Path(model).is_dir() else "no such directory",
            hint="correct model.id; a path is meant from the job file's folder",
        )
    try:
        loaded: Mapping[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise EngineRefused(
            "the model's config.json is not JSON", where=str(config), why=str(problem)
        ) from problem
    return loaded


def _refuse_code_and_pickles(engine: Mapping[str, Any]) -> None:
    if engine.get("trust_remote_code"):
        raise EngineRefused(
            "trust_remote_code runs code that comes with a model",
            where="model.engine.trust_remote_code",
            why="a worker holds credentials of your bucket",
            hint="use a model whose architecture vLLM has built in",
        )
    if engine.get("load_format") in _UNSAFE_LOAD_FORMATS:
        raise EngineRefused(
            f"load_format {engine['load_format']!r} unpickles files",
            where="model.engine.load_format",
            why="a pickle can run any code",
            hint="convert the weights to safetensors",
        )


def _refuse_sampled_speculation(job: JobSpec, device: Device) -> None:
    if device != "cpu" or job.model.speculative.method == "none":
        return
    if job.sampling.temperature > 0 or "temperature" in job.sampling.columns:
        # vLLM pull request 42638: a Triton kernel silently does nothing on the CPU, and the
        # rejection sampler goes on with memory nobody wrote.
        raise EngineRefused(
            "speculative decoding of sampled requests is not sound on vLLM's CPU build",
            where="model.speculative with sampling.temperature",
            why="its rejection sampler reads uninitialised memory, so answers would be wrong",
            hint="set temperature: 0, or speculative: none, or run on a GPU",
        )


def _refuse_quantization(
    job: JobSpec, device: Device, model_config: Mapping[str, Any] | None
) -> None:
    asked = job.model.quantization
    if device == "cpu" and asked in _NEEDS_A_GPU:
        raise EngineRefused(
            f"vLLM's CPU build does not run {asked} models",
            where="model.quantization",
            hint="use compressed-tensors, awq or gptq, or run on a GPU",
        )
    if model_config is None or asked == "auto":
        return
    found = (model_config.get("quantization_config") or {}).get("quant_method", "none")
    if found != asked and not (found == "none" and asked in _MADE_WHILE_LOADING):
        raise EngineRefused(
            f"the model is quantized as {found!r}, the job says {asked!r}",
            where="model.quantization",
            why="config.json of the model decides how its weights are read",
            hint=f"set quantization: {found}, or auto",
        )
