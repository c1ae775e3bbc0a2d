"""The engine that a job asks for, on this machine: refused, or loaded as fast as it can be."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

from pipeline.core.errors import JobInvalid
from pipeline.core.ports import Engine
from pipeline.core.session import Compiled, EngineStart
from pipeline.engines.compile_cache import CompileCache, place_and_secret, use
from pipeline.engines.hardware import compiled_for
from pipeline.engines.limits import Device, local_model_config, refuse_unsound
from pipeline.engines.model_files import FetchedModel, ModelFiles
from pipeline.engines.node_cache import cache_home
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.engines.streaming import streamed, streamer_installed, streams
from pipeline.engines.vllm import device_at_hand, import_vllm, load_vllm
from pipeline.job import JobSpec, ModelSpec
from pipeline.stores import StoreOptions, open_store

SCRIPTED = "scripted://"


def check_engine(job: JobSpec) -> None:
    """Refuse what the engine on this machine cannot do soundly. Raises `EngineRefused`."""
    if not job.model.id.startswith(SCRIPTED):
        refuse_unsound(job, device_at_hand(), local_model_config(job.model.id))


def context_tokens(job: JobSpec) -> int | None:
    """A row whose prompt has as many is refused; None where the job leaves that to the model."""
    if job.model.id.startswith(SCRIPTED):
        return _scripted_settings(job.model.id).max_model_len
    return job.model.max_model_len


class EngineLoader(Protocol):
    """Loads an engine when called; told whether in a process of its own. `start` says how the
    latest one came about, if that is known."""

    @property
    def start(self) -> EngineStart | None: ...

    def __call__(self, own_process: bool) -> Engine: ...


def engine_loader(job: JobSpec, options: StoreOptions) -> EngineLoader:
    """What loads the job's engine on this machine. Raises `JobInvalid`."""
    if job.model.id.startswith(SCRIPTED):
        return ScriptedLoader(_scripted_settings(job.model.id))
    return VllmLoader(job.model, options)


@dataclass(frozen=True, slots=True)
class ScriptedLoader:
    settings: ScriptedSettings
    start: EngineStart | None = None

    def __call__(self, own_process: bool) -> Engine:
        return ScriptedEngine(self.settings, time.sleep, own_process)


@dataclass(slots=True)
class VllmLoader:
    """Loads vLLM with what it can fetch beforehand and at the same time."""

    model: ModelSpec
    options: StoreOptions
    start: EngineStart | None = None
    # While it lives, nobody on this machine removes the model's files.
    _fetched: FetchedModel | None = field(default=None, init=False)

    def __call__(self, own_process: bool) -> Engine:
        """Raises `EngineFailed`, and what stores raise."""
        before = time.monotonic()
        device = device_at_hand()
        files = ModelFiles(self.options)
        installed = streamer_installed()
        straight = streams(self.model, device, self.options, installed=installed) and not files.has(
            self.model.id
        )
        local = files.located(self.model, weights=not straight)
        cache = _compile_cache(local, device, self.options)
        with ThreadPoolExecutor(2) as threads, ExitStack() as interrupted:
            # A worker that is told to stop does not wait for the rest of its model.
            interrupted.callback(files.give_up)
            fetching = threads.submit(files.fetch, self.model, weights=not straight)
            compiled: Compiled = "off"
            if cache is not None:
                use(cache)
                compiling = threads.submit(cache.fetch)
            # Imported meanwhile, since it takes the processor's time and the others the network's.
            import_vllm(local, own_process=own_process or device == "cuda")
            fetched = self._fetched = fetching.result()
            if cache is not None:
                compiled = compiling.result()
        fetch_seconds = time.monotonic() - before
        model = fetched.spec
        if straight:
            model = streamed(model, self.model.id, self.options)
        engine = load_vllm(model, device, own_process=own_process)
        if cache is not None and compiled != "bucket":
            cache.keep_beside()
        self.start = EngineStart(
            fetch_seconds=round(fetch_seconds, 3),
            load_seconds=round(time.monotonic() - before - fetch_seconds, 3),
            bytes_fetched=fetched.bytes_read,
            weights="streamed" if straight else fetched.source,
            compiled=compiled,
        )
        return engine


def _compile_cache(local: ModelSpec, device: Device, options: StoreOptions) -> CompileCache | None:
    """Raises `JobInvalid` where it is to be used, but not signed."""
    kept = place_and_secret(os.environ)
    # On a CPU, an engine that was told to compile nothing compiles nothing.
    if kept is None or (device == "cpu" and local.engine.get("enforce_eager")):
        return None
    identity = compiled_for(local, device)
    if identity is None:
        return None
    if device == "cpu":
        # What vLLM 0.32 compiles ahead of time for CPUs, it then fails to load, and compiles again.
        os.environ.setdefault("VLLM_USE_AOT_COMPILE", "0")
    uri, secret = kept
    return CompileCache(open_store(uri, options), secret, cache_home() / "compiled", identity)


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
