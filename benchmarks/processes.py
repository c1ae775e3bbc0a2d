"""spotmill and bare vLLM as their users start them: each a process, from its start to its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import child
from benchmarks.setting import Setting

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WholeRun:
    """`generate_seconds` of a job are those in which its worker's engine had requests."""

    rows: int
    tokens: int
    wall_seconds: float
    load_seconds: float
    generate_seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.wall_seconds

    @property
    def generate_rate(self) -> float:
        return self.tokens / self.generate_seconds


def bare(
    setting: Setting, rows: Path, arguments: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> tuple[WholeRun, Json]:
    """`benchmarks.bare` over a file of rows, and all that it told."""
    ended = child.run(
        child.module(
            "benchmarks.bare",
            rows,
            json.dumps(dict(arguments)),
            "--tokens",
            *(["--in-process"] if setting.device == "cpu" else []),
        ),
        child.environment(setting.device, env),
    )
    told = ended.document()
    run = WholeRun(
        len(told["tokens"]),
        told["output_tokens"],
        ended.wall_seconds,
        told["load_seconds"],
        told["generate_seconds"],
    )
    return run, told | {"seconds_to_answer": told["answered_at"] - ended.started}


def job(setting: Setting, job_file: Path) -> WholeRun:
    """`spotmill run` without Prefect: plan, one worker, finish."""
    ended = child.run(
        child.module("pipeline.cli", "run", job_file, "--no-prefect", "--json"),
        child.environment(setting.device),
    )
    manifest = json.loads(ended.output)
    [worker] = manifest["workers"]
    return WholeRun(
        manifest["output"]["rows_ok"],
        manifest["tokens"]["output"],
        ended.wall_seconds,
        worker["seconds"]["load"],
        worker["seconds"]["useful"],
    )
