"""The devices that an engine here runs on, in a line: for keys of what was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pipeline.engines.hardware import gpus, processor
from pipeline.engines.limits import Device


def hardware_at_hand(device: Device) -> str:
    """Such as `1 x NVIDIA L4` or `2 x AMD EPYC 7B13`; the same on machines that are alike."""
    if device == "cuda":
        # Name, compute capability, driver: the driver changes without anybody's doing.
        names = [line.partition(",")[0] for line in gpus() or ["unknown"]]
        return " + ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))
    told = processor(Path("/proc/cpuinfo"))
    return f"{os.cpu_count()} x {told.get('model name', platform.machine())}"
