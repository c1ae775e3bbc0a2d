"""What a checkpoint every 5 seconds costs: the same worker on the same engine, with and without.

Pairs are run in turn, each the other way round than the one before, on one loaded engine, so that
a machine that others use too slows both alike. Where that is too noisy to tell one per cent, the
processor's time that checkpoints took, on the engine's thread and beside it, bounds what they can
cost. `python -m benchmarks.checkpointing`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from pipeline.ledger import Ledger
from pipeline.saver import Saver
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


@dataclass(slots=True)
class Spent:
    """Processor seconds inside checkpoints, on whichever thread."""

    seconds: float = 0.0

    def on(self, owner: type, method: str) -> None:
        """Count what `owner.method` takes from now on."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return inner(*arguments)
            finally:
                self.seconds += time.thread_time() - began

        setattr(owner, method, timed)


def work(
    load: Workload, engine: Engine, name: str, chunks: dict[str, float]
) -> tuple[float, int, int]:
    """Output tokens a second of a worker's working time, the checkpoints it made, its tokens."""
    here = open_job(str(load.job_file(load.folder / name, False, chunks)), run_id=name)
    plan = wiring.plan(here)
    wiring.run_worker(here, NoNotice(), load_engine=lambda _: Lent(engine))
    manifest = wiring.close_books(here, plan)
    [worker] = manifest["workers"]
    seconds = sum(worker["seconds"][b] for b in ("useful", "wasted", "idle", "drain"))
    checkpoints = len(here.store.list(f"runs/{name}/checkpoints/"))
    tokens: int = manifest["tokens"]["output"]
    return tokens / seconds, checkpoints, tokens


def measure(rows: int, pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        load = make_workload(Path(folder), rows)
        first = open_job(str(load.job_file(load.folder / "any", False)), run_id="any")
        engine = load_vllm(local_model(first.job.model, first.options), device_at_hand())
        work(load, engine, "warm", NEVER)
        ratios, saved = [], 0
        spent, worked = Spent(), 0.0
        spent.on(Ledger, "checkpoint")
        spent.on(Saver, "save_what_is_due")
        for n in range(pairs):
            order = [("with", EVERY_5_SECONDS), ("without", NEVER)]
            rates = {}
            for name, chunks in order if n % 2 else reversed(order):
                rates[name], made, tokens = work(load, engine, f"{name}-{n}", chunks)
                saved += made
            ratios.append(rates["with"] / rates["without"])
            worked += tokens / rates["with"]
            print(f"pair {n + 1}: {ratios[-1]:.4f} at {rates['without']:.0f} tokens/s", flush=True)
    return {
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "pairs": pairs,
        "rows": rows,
        "checkpoints_a_run": saved / pairs,
        "processor_share": spent.seconds / worked,
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
