"""What an engine cannot do soundly, found out from the job alone, before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import EngineRefused
from pipeline.job import JobSpec

Device = Literal["cpu", "cuda"]

# Those that read safetensors or nothing; `dummy`, for measuring, makes weights up.
_LOAD_FORMATS = frozenset(
    {
        "safetensors",
        "fastsafetensors",
        "instanttensor",
        "runai_streamer",
        "runai_streamer_sharded",
        "sharded_state",
        "dummy",
    }
)
_NOT_FOR_ENGINE = {
    "model": "write model.id",
    "model_weights": "write model.id",
    "revision": "write model.revision",
    "quantization": "write model.quantization",
    "quantization_config": "write model.quantization",
    "speculative_config": "write model.speculative",
    "spec_method": "write model.speculative",
    "spec_model": "write model.speculative",
    "spec_tokens": "write model.speculative.num_speculative_tokens",
    "max_model_len": "write model.max_model_len",
    "disable_log_stats": "leave it out: what is proposed and accepted is counted there",
}
# By vLLM 0.32's EngineArgs: each imports a module, or a class from one, that its value names.
_LOADS_CODE = frozenset(
    {
        "trust_remote_code",
        "logits_processors",
        "model_class_overrides",
        "inductor_passes",
        "kv_transfer_config",
        "ec_transfer_config",
        "log_config_file",
        "pylogging_config_file",
    }
)
_LOADS_CODE_BY_SUFFIX = ("_cls", "_plugin", "module_path")
_EXECUTORS = ("mp", "ray", "uni", "external_launcher")
_COMPILERS = ("", None, "eager", "inductor")
_NEEDS_A_GPU = frozenset({"bitsandbytes", "gguf"})
_MADE_WHILE_LOADING = frozenset({"fp8", "bitsandbytes"})


def refuse_unsound(job: JobSpec, device: Device, model_config: Mapping[str, Any] | None) -> None:
    """Raises `EngineRefused` with the reason. `model_config` is config.json, if it is at hand."""
    _refuse_doubled_keys(job.model.engine)
    _refuse_code(job.model.engine, "model.engine")
    _refuse_pickles(job.model.engine)
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


def quantization_of(model_config: Mapping[str, Any]) -> str:
    """How the weights are quantized, by the model's config.json; `none` where they are not."""
    return str((model_config.get("quantization_config") or {}).get("quant_method", "none"))


def _refuse_doubled_keys(engine: Mapping[str, Any]) -> None:
    for key in engine:
        if key in _NOT_FOR_ENGINE:
            raise EngineRefused(
                f"{key} is not for model.engine",
                where=f"model.engine.{key}",
                why="it would silently replace what the job says elsewhere, or what spotmill needs",
                hint=_NOT_FOR_ENGINE[key],
            )


def _refuse_code(settings: Mapping[str, Any], where: str) -> None:
    for key, value in settings.items():
        if value and _loads_code(str(key), value):
            raise EngineRefused(
                f"{key} runs code that does not come with vLLM",
                where=f"{where}.{key}",
                why="a worker holds credentials of your bucket",
                hint="leave it out; a model whose architecture vLLM has built in needs none of it",
            )
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                _refuse_code(inner, f"{where}.{key}")


def _loads_code(key: str, value: object) -> bool:
    if key == "distributed_executor_backend":
        return value not in _EXECUTORS
    if key == "compilation_config" and isinstance(value, Mapping):
        return value.get("backend", "") not in _COMPILERS
    return key in _LOADS_CODE or key.endswith(_LOADS_CODE_BY_SUFFIX)


def _refuse_pickles(engine: Mapping[str, Any]) -> None:
    asked = engine.get("load_format", "safetensors")
    # vLLM reads the name in small letters.
    if not isinstance(asked, str) or asked.lower() not in _LOAD_FORMATS:
        raise EngineRefused(
            f"load_format {asked!r} may unpickle files",
            where="model.engine.load_format",
            why="a pickle can run any code",
            hint="convert the weights to safetensors, and leave load_format out",
        )


def _refuse_sampled_speculation(job: JobSpec, device: Device) -> None:
    if device != "cpu" or job.model.speculative.method in ("none", "auto"):
        return
    if job.sampling.may_draw:
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
    found = None
    if model_config is not None:
        found = quantization_of(model_config)
    meant = found if asked == "auto" else asked
    if device == "cpu" and meant in _NEEDS_A_GPU:
        raise EngineRefused(
            f"vLLM's CPU build does not run {meant} models",
            where="model.quantization" if meant == asked else f"config.json of {job.model.id}",
            hint="use compressed-tensors, awq or gptq, or run on a GPU",
        )
    if found is None or asked == "auto":
        return
    if found != asked and not (found == "none" and asked in _MADE_WHILE_LOADING):
        raise EngineRefused(
            f"the model is quantized as {found!r}, the job says {asked!r}",
            where="model.quantization",
            why="config.json of the model decides how its weights are read",
            hint=f"set quantization: {found}, or auto",
        )
