"""The devices that an engine here runs on, in a line: for keys of what was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from pipeline.engines.hardware import gpus
from pipeline.engines.limits import Device


def hardware_at_hand(device: Device) -> str:
    """Such as `1 x NVIDIA L4` or `2 x AMD EPYC 7B13`; the same on machines that are alike."""
    if device == "cuda":
        # Name, compute capability, driver: the driver changes without anybody's doing.
        names = [line.partition(",")[0] for line in gpus() or ["unknown"]]
        return " + ".join(f"{names.count(name)} x {name}" for name in sorted(set(names)))
    return f"{os.cpu_count()} x {_processor(Path('/proc/cpuinfo'))}"


def _processor(told: Path) -> str:
    try:
        lines = told.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
