"""The engine that a job asks for, on this machine: refused, or loaded as fast as it can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from pipeline.core.errors import JobInvalid
from pipeline.core.ports import Engine
from pipeline.engines.limits import local_model_config, refuse_unsound
from pipeline.engines.model_files import local_model
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.engines.vllm import device_at_hand, load_vllm
from pipeline.job import JobSpec
from pipeline.stores import StoreOptions

SCRIPTED = "scripted://"


def check_engine(job: JobSpec) -> None:
    """Refuse what the engine on this machine cannot do soundly. Raises `EngineRefused`."""
    if not job.model.id.startswith(SCRIPTED):
        refuse_unsound(job, device_at_hand(), local_model_config(job.model.id))


def engine_loader(job: JobSpec, options: StoreOptions) -> Callable[[bool], Engine]:
    """What loads the job's engine on this machine; told whether in a process of its own."""
    if job.model.id.startswith(SCRIPTED):
        settings = _scripted_settings(job.model.id)
        return lambda own_process: ScriptedEngine(settings, time.sleep, own_process)

    def load(own_process: bool) -> Engine:
        model = local_model(job.model, options)
        return load_vllm(model, device_at_hand(), own_process=own_process)

    return load


def _scripted_settings(model: str) -> ScriptedSettings:
    kinds: dict[str, type[int] | type[float] | type[str]] = {
        "window": int,
        "max_model_len": int,
        "tokens": int,
        "step_seconds": float,
        "hang_seconds": float,
        "counter": str,
    }
    query = parse_qsl(model.removeprefix(SCRIPTED).lstrip("?"))
    try:
        return ScriptedSettings(**{key: kinds[key](value) for key, value in query})  # type: ignore[arg-type]
    except (KeyError, ValueError) as problem:
        raise JobInvalid(
            f"the scripted engine knows no {problem}",
            where="model.id",
            hint=f"settings are {', '.join(kinds)}",
        ) from problem
