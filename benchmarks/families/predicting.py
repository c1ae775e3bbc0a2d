"""Nights of the sample job, each predicted from those before it: expected against what it took."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import child
from benchmarks.figure import Figure, Record, Target, spread
from benchmarks.setting import Setting
from benchmarks.workload import make_workload

_ENV = {"SPOTMILL_INSTANCE_TYPE": "laptop", "SPOTMILL_INSTANCE_LIFECYCLE": "spot"}
_SEED = 7
Json = dict[str, Any]


def measure(setting: Setting) -> Iterator[Record]:
    nights, usual = setting.of_size(3, 9, 21), setting.rows(60, 1_000, 1_000)
    dice = random.Random(_SEED)
    rows = [round(usual * dice.uniform(0.7, 1.4)) for _ in range(nights)]
    with tempfile.TemporaryDirectory() as name:
        ran = [_night(setting, Path(name), n, count) for n, count in enumerate(rows)]
    # Nothing is expected of a first run.
    expected = [run["prediction"] for run in ran if "prediction" in run]
    how = (
        f"{len(expected)} runs of `spotmill run` after a first, each with tickets of its own, "
        f"{min(rows)} to {max(rows)} of them"
    )
    yield spread(
        "predicting.usd",
        "error of the p50 of dollars",
        _errors(expected, "usd"),
        f"{how}; signed: {_signed(expected)}",
        "%",
        Target(15.0, at_least=False),
    )
    yield spread(
        "predicting.output-tokens",
        "error of the p50 of output tokens",
        _errors(expected, "output_tokens"),
        "the same runs",
        "%",
    )
    yield Figure(
        "predicting.within-p90",
        "runs at or below the p90 of dollars",
        sum(one["usd"]["within_p90"] for one in expected) / len(expected),
        f"of {len(expected)}; the p90 was {_above(expected):.2f} of the p50 in the median",
        samples=len(expected),
        target=Target(0.85),
    )


def _night(setting: Setting, folder: Path, night: int, rows: int) -> Json:
    load = make_workload(folder / f"night-{night}", rows, night)
    job_file = load.job_file(folder / "out", speculate=setting.sample)
    ended = child.run(
        child.module(
            "pipeline.cli", "run", job_file, "--run-id", f"n{night}", "--no-prefect", "--json"
        ),
        child.environment(setting.device, _ENV),
    )
    told: Json = json.loads(ended.output)
    return told


def _errors(expected: list[Json], name: str) -> list[float]:
    return [100 * abs(one[name]["error"]) for one in expected]


def _signed(expected: list[Json]) -> str:
    return ", ".join(f"{one['usd']['error']:+.1%}" for one in expected)


def _above(expected: list[Json]) -> float:
    return median(float(one["usd"]["p90"] / one["usd"]["p50"]) for one in expected)
