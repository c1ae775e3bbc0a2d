"""What a checkpoint every 5 seconds costs: the same worker on the same engine, with and without.

Pairs are run in turn, each the other way round than the one before, on one loaded engine, so that
a machine that others use too slows both alike. `python -m benchmarks.checkpointing`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.workload import Workload, make_workload
from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.ports import Engine
from pipeline.engines.model_files import local_model
from pipeline.engines.preload import cpu_environment
from pipeline.engines.vllm import device_at_hand, load_vllm
from pipeline.spot.signals import NoNotice

NEVER = {"rows": 10**9, "seconds": 1e9}
EVERY_5_SECONDS = {"rows": 10**9, "seconds": 5.0}


class Lent:
    """An engine that outlives the workers it is lent to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Kept for the next worker."""


def work(load: Workload, engine: Engine, name: str, chunks: dict[str, float]) -> tuple[float, int]:
    """Output tokens a second of one worker's working time, and the checkpoints it made."""
    here = open_job(str(load.job_file(load.folder / name, False, chunks)), run_id=name)
    plan = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), load_engine=lambda _: Lent(engine))
    manifest = wiring.close_books(here, plan)
    [worker] = manifest["workers"]
    seconds = sum(worker["seconds"][b] for b in ("useful", "wasted", "idle", "drain"))
    checkpoints = len(here.store.list(f"runs/{name}/checkpoints/"))
    return manifest["tokens"]["output"] / seconds, checkpoints


def measure(rows: int, pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        load = make_workload(Path(folder), rows)
        first = open_job(str(load.job_file(load.folder / "any", False)), run_id="any")
        engine = load_vllm(local_model(first.job.model, first.options), device_at_hand())
        work(load, engine, "warm", NEVER)
        ratios, saved = [], 0
        for n in range(pairs):
            order = [("with", EVERY_5_SECONDS), ("without", NEVER)]
            rates = {}
            for name, chunks in order if n % 2 else reversed(order):
                rates[name], made = work(load, engine, f"{name}-{n}", chunks)
                saved += made
            ratios.append(rates["with"] / rates["without"])
            print(f"pair {n + 1}: {ratios[-1]:.4f} at {rates['without']:.0f} tokens/s", flush=True)
    return {
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "pairs": pairs,
        "rows": rows,
        "checkpoints_a_run": saved / pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.checkpointing", description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--pairs", type=int, default=8)
    asked = parser.parse_args()
    if "LD_PRELOAD" not in os.environ and (wanted := cpu_environment(1)):
        # Preloading is for processes to come, so this one begins again.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})  # noqa: S606
    print(json.dumps(measure(asked.rows, asked.pairs)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
