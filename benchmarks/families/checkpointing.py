"""What a checkpoint every 5 seconds costs; measured by `benchmarks.checkpointing`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks import child
from benchmarks.figure import Figure, Record
from benchmarks.setting import Setting


def measure(setting: Setting) -> Iterator[Record]:
    rows = setting.rows(600, 3_000, 6_000)
    pairs = setting.of_size(1, 4, 8)
    found = child.run(
        child.module(
            "benchmarks.checkpointing",
            *("--rows", str(rows), "--pairs", str(pairs)),
            *("--setting", json.dumps(setting.to_json())),
        ),
        child.environment(setting.device),
    ).document()
    yield Figure(
        "checkpointing.ratio",
        "a checkpoint every 5 s / none at all",
        found["ratio"],
        f"output tokens a second, {found['rows']} tickets on one engine, "
        f"{found['checkpoints_a_run']:.0f} checkpoints a run",
        low=found["lowest"],
        high=found["highest"],
        samples=found["pairs"],
    )
    yield Figure(
        "checkpointing.processor",
        "processor time that checkpoints took",
        100 * found["processor_share"],
        "of one processor's time while the worker worked, on the engine's thread and beside it",
        unit="%",
    )
