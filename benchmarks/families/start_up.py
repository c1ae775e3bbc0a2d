"""From a process's start to its first answer: a worker against bare vLLM, cold and again.

Cold means an empty compile cache of vLLM's; files stay in the operating system's cache for both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import child
from benchmarks.figure import Figure, Record
from benchmarks.processes import bare
from benchmarks.setting import Setting
from benchmarks.workload import Rows, write_rows
from pipeline import wiring
from pipeline.at_hand import open_job


@dataclass(frozen=True, slots=True)
class _Start:
    answer_seconds: float
    load_seconds: float


def measure(setting: Setting) -> Iterator[Record]:
    # Compiling is what a cold start mostly is; it takes a CPU half a minute.
    compiled = setting.device == "cuda" or setting.size != "quick"
    engine: dict[str, Any] = (
        {"enforce_eager": False} if compiled and setting.device == "cpu" else {}
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_rows(folder, ["Hello."], [1], "{{ body }}")
        caches = [folder / f"cache-{n}" for n in range(3)]
        bare_cold = _bare(setting, rows, engine, caches[0])
        ours_cold = _ours(setting, rows, engine, caches[1], "cold")
        bare_again = _bare(setting, rows, engine, caches[0])
        ours_again = _ours(setting, rows, engine, caches[1], "again")
        ours_moved = _ours(setting, rows, engine, caches[2], "moved")
    how = "compiling" if compiled else "enforce_eager, so nothing is compiled"
    for key, title, mine, other, more in (
        ("cold", "first start", ours_cold, bare_cold, "empty caches on both sides"),
        ("again", "second start", ours_again, bare_again, "the caches of the first"),
        (
            "moved",
            "first start on another machine",
            ours_moved,
            bare_cold,
            "empty caches on both sides, but a bucket that workers have used before",
        ),
    ):
        yield Figure(
            f"start-up.{key}",
            f"{title}, worker / bare engine",
            mine.answer_seconds / other.answer_seconds,
            f"seconds from the process's start to its first answer (a worker's is published, a "
            f"bare one's printed): {mine.answer_seconds:.1f} / {other.answer_seconds:.1f}; {more}; "
            f"{how}; one pair",
        )
    yield Figure(
        "start-up.load",
        "second start, loading alone",
        ours_again.load_seconds / bare_again.load_seconds,
        f"seconds in which the engine is made, imports of vLLM included: "
        f"{ours_again.load_seconds:.1f} / {bare_again.load_seconds:.1f}",
    )


def _caches(folder: Path) -> dict[str, str]:
    return {
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }


def _bare(setting: Setting, rows: Rows, engine: dict[str, Any], cache: Path) -> _Start:
    arguments = setting.llm_arguments(**engine)
    run, told = bare(setting, rows.as_json(), arguments, _caches(cache))
    return _Start(told["seconds_to_answer"], run.load_seconds)


def _ours(setting: Setting, rows: Rows, engine: dict[str, Any], cache: Path, run: str) -> _Start:
    """Every run writes to the same place, as nights do."""
    job_file = rows.job_file(setting, "out", shards=1, **engine)
    here = open_job(str(job_file), run_id=run)
    plan = wiring.plan(here)
    command = child.module("pipeline.cli", "worker", job_file, "--run-id", run, "--json")
    began = time.time()
    child.run(command, child.environment(setting.device, _caches(cache)))
    [part] = (rows.folder / "out" / "data" / f"run={run}").glob("part-*.parquet")
    [worker] = wiring.close_books(here, plan)["workers"]
    return _Start(part.stat().st_mtime - began, worker["seconds"]["load"])
