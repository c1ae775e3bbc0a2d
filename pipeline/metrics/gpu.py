"""How busy this node's GPUs are, where NVIDIA's management library answers (`nvidia-ml-py`, of the
extra `gpu`)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, Protocol, cast

from pipeline.metrics.figures import Figure


class Nvml(Protocol):
    """What is used of the module `pynvml`."""

    def nvmlInit(self) -> Any: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any: ...  # noqa: N802

    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...  # noqa: N802

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802


class Gpus:
    """The GPUs that this process may use, by `CUDA_VISIBLE_DEVICES` or all. None without NVML."""

    def __init__(self, nvml: Nvml | None = None, visible: str | None = None) -> None:
        self._nvml: Nvml | None = None
        self._handles: dict[str, Any] = {}
        try:
            found = nvml or cast("Nvml", importlib.import_module("pynvml"))
            found.nvmlInit()
            names = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
            self._handles = _handles(found, names)
            self._nvml = found
        except Exception:  # noqa: S110 - no GPU, no library, or no permission: nothing to tell
            pass

    def figures(self) -> list[Figure]:
        """Nothing of a GPU that does not answer, now or ever."""
        told: list[Figure] = []
        for name, handle in self._handles.items():
            if self._nvml is None:
                continue
            labels = {"hw.id": name}
            try:
                busy = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
            except Exception:  # noqa: S112 - lost, or a slice of a GPU, which is not measured
                continue
            told.append(Figure("hw.gpu.utilization", busy / 100, labels))
            told.append(Figure("hw.gpu.memory.utilization", memory.used / memory.total, labels))
        return told


def _handles(nvml: Nvml, visible: str | None) -> dict[str, Any]:
    """By the names that they are called by: CUDA's environment variables (CUDA C++ Programming
    Guide) end at the first that names no GPU, as `-1` does."""
    every = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    if visible is None:
        return {str(number): handle for number, handle in enumerate(every)}
    found: dict[str, Any] = {}
    for name in visible.split(","):
        alike = _called(nvml, name.strip(), every)
        if len(alike) != 1:
            break
        found[name.strip()] = alike[0]
    return found


def _called(nvml: Nvml, name: str, every: Sequence[Any]) -> Sequence[Any]:
    """A number is a place; a UUID may be cut short, as long as it is one's alone."""
    if name.isdigit():
        return every[int(name) :][:1]
    if name.startswith("MIG-"):
        return [nvml.nvmlDeviceGetHandleByUUID(name)]
    if not name.startswith("GPU-"):
        return []
    return [handle for handle in every if nvml.nvmlDeviceGetUUID(handle).startswith(name)]
