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
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.lent import lend
from benchmarks.setting import Setting
from benchmarks.spent import Spent
from benchmarks.workload import ticket_rows
from pipeline.engines.preload import cpu_environment
from pipeline.ledger import Ledger
from pipeline.saver import Saver

NEVER = {"rows": 10**9, "seconds": 1e9}
EVERY_5_SECONDS = {"rows": 10**9, "seconds": 5.0}


def measure(setting: Setting, rows: int, pairs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        load = ticket_rows(Path(folder), rows, mixed=False)
        lent = lend(setting)
        lent.worker(load.job_file(setting, "warm", NEVER), "warm")
        ratios, saved = [], 0
        spent, worked = Spent(), 0.0
        spent.on(Ledger, "checkpoint")
        spent.on(Saver, "save_what_is_due")
        for n in range(pairs):
            order = [("with", EVERY_5_SECONDS), ("without", NEVER)]
            rates = {}
            for kind, chunks in order if n % 2 else reversed(order):
                name = f"{kind}-{n}"
                answered = lent.worker(load.job_file(setting, name, chunks), name)
                rates[kind] = answered.rate
                saved += answered.checkpoints
                if kind == "with":
                    worked += answered.seconds
            ratios.append(rates["with"] / rates["without"])
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
    parser.add_argument("--setting", type=json.loads, default={}, help="JSON of a Setting")
    asked = parser.parse_args()
    setting = Setting.from_json(asked.setting)
    wanted = cpu_environment(1) if setting.device == "cpu" else {}
    if wanted and "LD_PRELOAD" not in os.environ:
        # Preloading is for processes to come, so this one begins again.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})  # noqa: S606
    print(json.dumps(measure(setting, asked.rows, asked.pairs)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
