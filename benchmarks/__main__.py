"""`make bench`: spotmill against bare vLLM on the same prompts, in turn, in one run.

Absolute figures belong to the machine and the hour; the ratios of pairs are what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.workload import MODELS, ROOT, Workload, engine_arguments, make_workload
from pipeline.engines.preload import cpu_environment

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: str
    how: str


def bare(load: Workload, model: str, speculate: bool) -> Json:
    """One process of bare vLLM."""
    started = time.monotonic()
    arguments = json.dumps(engine_arguments(model, speculate))
    command = [sys.executable, "-m", "benchmarks.bare", str(load.prompts_file), arguments]
    document: Json = json.loads(_output_of(command))
    return document | {"wall_seconds": time.monotonic() - started}


def job(load: Workload, number: int, speculate: bool) -> Json:
    """The whole job: plan, claim, generate in chunks, checkpoint, publish, finish."""
    started = time.monotonic()
    path = load.job_file(load.folder / f"out-{number}-{speculate}", speculate)
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path), "--no-prefect", "--json"]
    manifest: Json = json.loads(_output_of(command))
    [worker] = manifest["workers"]
    seconds = worker["seconds"]
    return {
        "wall_seconds": time.monotonic() - started,
        "load_seconds": seconds["load"],
        "work_seconds": sum(seconds[b] for b in ("useful", "wasted", "idle", "drain")),
        "useful_seconds": seconds["useful"],
        "output_tokens": manifest["tokens"]["output"],
    }


def measure(load: Workload, pairs: int) -> list[Figure]:
    runs = [
        (bare(load, "target-w8a8", True), job(load, n, True), bare(load, "target-w8a8", False))
        for n in range(pairs)
    ]
    original = bare(load, "target", False)
    speculating = [run[0] for run in runs]
    plain = [run[2] for run in runs]
    jobs = [run[1] for run in runs]
    return [
        *_job_figures(speculating, jobs),
        *_speculation_figures(speculating, plain),
        *_quantization_figures(plain[0], original),
        _checkpointing_figure(pairs),
    ]


def _checkpointing_figure(pairs: int) -> Figure:
    command = [sys.executable, "-m", "benchmarks.checkpointing", "--pairs", str(2 * pairs)]
    found = json.loads(_output_of(command).splitlines()[-1])
    return Figure(
        "a checkpoint every 5 s / none at all",
        f"{found['ratio']:.4f} ({found['lowest']:.4f} to {found['highest']:.4f})",
        f"output tokens per second, {found['rows']} tickets, {found['pairs']} pairs on one engine, "
        f"{found['checkpoints_a_run']:.0f} checkpoints a run; they took "
        f"{found['processor_share']:.2%} of one processor",
    )


def _job_figures(bares: Sequence[Json], jobs: Sequence[Json]) -> list[Figure]:
    pairs = list(zip(jobs, bares, strict=True))
    work = [_rate(j, "work_seconds") / _rate(b, "generate_seconds") for j, b in pairs]
    steady = [_rate(j, "useful_seconds") / _rate(b, "generate_seconds") for j, b in pairs]
    wall = [_rate(j, "wall_seconds") / _rate(b, "wall_seconds") for j, b in pairs]
    load = [j["load_seconds"] / b["load_seconds"] for j, b in pairs]
    return [
        Figure(
            "whole job, model loaded / bare `LLM.generate`",
            _spread(work),
            "output tokens per second from the loaded model to the worker's last beat: claims, "
            "reading, 50 checkpoints, 8 publications and the tail included",
        ),
        Figure(
            "the same, engine running",
            _spread(steady),
            "only the seconds in which the worker's engine had requests",
        ),
        Figure(
            "whole job / bare, process start to end",
            _spread(wall),
            "start-up of the supervisor and of the worker, and finishing the books included",
        ),
        Figure("worker's model load / bare model load", _spread(load), "seconds"),
        Figure(
            "bare `LLM.generate`, tokens per second",
            _spread([_rate(b, "generate_seconds") for b in bares], 0),
            "this machine, this hour: do not compare with other days",
        ),
    ]


def _speculation_figures(speculating: Sequence[Json], plain: Sequence[Json]) -> list[Figure]:
    gain = [
        _rate(s, "generate_seconds") / _rate(p, "generate_seconds")
        for s, p in zip(speculating, plain, strict=True)
    ]
    accepted = sum(s["draft_accepted"] for s in speculating)
    proposed = sum(s["draft_proposed"] for s in speculating)
    same = _identical(speculating[0]["tokens"], plain[0]["tokens"])
    return [
        Figure(
            "speculation: draft tokens accepted",
            f"{accepted / proposed:.3f}",
            "draft model, 3 tokens at a time, greedy",
        ),
        Figure(
            "speculation on / off, bare vLLM",
            _spread(gain),
            "output tokens per second, W8A8",
        ),
        Figure(
            "answers identical with and without speculation",
            f"{same:.3f}",
            "share of rows; in bf16 near-ties may fall differently in other batches",
        ),
    ]


def _quantization_figures(quantized: Json, original: Json) -> list[Figure]:
    sizes = {
        name: (MODELS / name / "model.safetensors").stat().st_size
        for name in ("target-w8a8", "target")
    }
    ratio = _rate(quantized, "generate_seconds") / _rate(original, "generate_seconds")
    return [
        Figure(
            "W8A8 / bf16 weights, size",
            f"{sizes['target-w8a8'] / sizes['target']:.3f}",
            f"{sizes['target-w8a8'] / 1e6:.1f} MB of {sizes['target'] / 1e6:.1f} MB; embeddings "
            "stay in bf16",
        ),
        Figure("W8A8 / bf16, speed", f"{ratio:.3f}", "output tokens per second, one pair"),
        Figure(
            "W8A8 and bf16 agree, whole answers",
            f"{_identical(quantized['tokens'], original['tokens']):.3f}",
            "share of rows whose greedy answers are the same to the last token",
        ),
        Figure(
            "W8A8 and bf16 agree, tokens",
            f"{_same_prefix(quantized['tokens'], original['tokens']):.3f}",
            "share of the original's tokens before the first difference of each row",
        ),
    ]


def _rate(run: Json, seconds: str) -> float:
    return float(run["output_tokens"] / run[seconds])


def _spread(values: Sequence[float], digits: int = 3) -> str:
    middle, low, high = (f"{f(values):.{digits}f}" for f in (median, min, max))
    return f"{middle} ({low} to {high})"


def _identical(left: Sequence[list[int]], right: Sequence[list[int]]) -> float:
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def _same_prefix(left: Sequence[list[int]], right: Sequence[list[int]]) -> float:
    same = sum(
        next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in zip(left, right, strict=True)
    )
    return same / sum(map(len, right))


def _output_of(command: list[str]) -> str:
    environment = {**os.environ, **cpu_environment(1)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ended with exit code {done.returncode}")
    return done.stdout


def _write(figures: Sequence[Figure], rows: int, pairs: int) -> None:
    lines = [
        "# Figures",
        "",
        f"Measured {datetime.now(UTC).date()} with `make bench`: {rows} tickets, {pairs} "
        "times in turn; median (lowest to highest).",
        f"Machine: {_machine()}",
        "",
        "| figure | value | what it says |",
        "|---|---|---|",
        *(f"| {figure.name} | {figure.value} | {figure.how} |" for figure in figures),
        "",
    ]
    RESULTS.write_text("\n".join(lines))


def _machine() -> str:
    cores = os.cpu_count()
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cores} shared x86-64 cores, {gigabytes:.0f} GiB of memory, no GPU, vLLM's CPU build; "
        f"load average {os.getloadavg()[1]:.1f} at the end."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(make_workload(Path(folder), asked.rows), asked.pairs)
    table = Table("figure", "value", "what it says", title="spotmill against bare vLLM")
    for figure in figures:
        table.add_row(figure.name, figure.value, figure.how)
    Console(width=140).print(table)
    _write(figures, asked.rows, asked.pairs)


if __name__ == "__main__":
    main()
