"""What a CPU worker's process must be started with, since it cannot be set once Python runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cpu_environment(workers_on_this_machine: int) -> dict[str, str]:
    """Environment for worker processes that share this machine's cores; set values are kept.

    vLLM binds threads to cores, with which GNU's OpenMP, once it is loaded, uses one core alone
    (vLLM issue 27369), and waits by spinning. Intel's, preloaded, does neither.
    """
    cores = os.cpu_count() or 1
    wanted = {"OMP_NUM_THREADS": str(max(1, cores // workers_on_this_machine))}
    intel_openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if intel_openmp.is_file():
        wanted["LD_PRELOAD"] = str(intel_openmp)
    return {name: os.environ.get(name, value) for name, value in wanted.items()}
