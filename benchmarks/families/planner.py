"""Planning 100 million rows in 1,000 files, against reading the same footers with bare pyarrow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks import child
from benchmarks.child import Ended
from benchmarks.figure import Figure, Record, Target, ratios, spread
from benchmarks.setting import Setting

_DISTINCT = 4
_ROWS_A_FILE = 100_000
_ROWS_A_GROUP = 5_000


def measure(setting: Setting) -> Iterator[Record]:
    files = setting.of_size(100, 1_000, 1_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_files(folder / "rows", files)
        job = _job_file(folder)
        ours: list[Ended] = []
        bare: list[Ended] = []
        for n in range(3):
            if n % 2:
                ours.append(child.run(child.module("benchmarks.plan_once", job)))
            bare.append(child.run(child.module("benchmarks.footers", folder / "rows")))
            if not n % 2:
                ours.append(child.run(child.module("benchmarks.plan_once", job)))
    yield from _figures(files, ours, bare)


def _figures(files: int, ours: list[Ended], bare: list[Ended]) -> Iterator[Record]:
    plans = [ended.document() for ended in ours]
    footers = [ended.document() for ended in bare]
    rows = plans[0]["rows"]
    if rows != footers[0]["rows"]:
        raise ValueError(f"the plan has {rows} rows, the footers {footers[0]['rows']}")
    what = (
        f"{rows / 1e6:g} million rows in {files} files of {footers[0]['row_groups'] // files} row "
        f"groups ({_DISTINCT} distinct ones, copied, so that each has a version of its own)"
    )
    yield spread(
        "planner.seconds",
        "planning",
        [ended.wall_seconds for ended in ours],
        f"a whole process, start to end, until the plan's bytes are made; {what}",
        unit="s",
        target=Target(60.0, at_least=False),
    )
    yield spread(
        "planner.memory",
        "peak memory of planning",
        [ended.peak_bytes / 1e6 for ended in ours],
        "largest resident set of that process, its libraries included",
        unit="MB",
        target=Target(500.0, at_least=False),
    )
    digests = {plan["sha256"] for plan in plans}
    yield Figure(
        "planner.same",
        "different plans made",
        len(digests),
        f"of {len(plans)} processes, by a digest of the bytes",
        unit="of them",
        target=Target(1.0, at_least=False),
    )
    yield spread(
        "planner.rate",
        "rows planned a second",
        [plan["rows"] / plan["seconds"] for plan in plans],
        f"without the process's start, {plans[0]['shards']} shards",
        unit="rows/s",
    )
    yield spread(
        "planner.speed",
        "planner / bare pyarrow, speed",
        ratios([f["seconds"] for f in footers], [p["seconds"] for p in plans]),
        "rows a second, against reading the same footers on as many threads",
    )
    yield spread(
        "planner.memory-ratio",
        "planner / bare pyarrow, peak memory",
        ratios([o.peak_bytes for o in ours], [b.peak_bytes for b in bare]),
        f"largest resident sets; bare: {min(b.peak_bytes for b in bare) / 1e6:.0f} MB",
    )


def _write_files(folder: Path, files: int) -> None:
    """Columns that take next to nothing, so that only their footers matter."""
    folder.mkdir()
    text = pa.array(["Say something."] * _ROWS_A_FILE).dictionary_encode()
    for n in range(_DISTINCT):
        numbers = pa.array([(n + i) % 7 for i in range(_ROWS_A_FILE)], pa.int8())
        table = pa.table({"text": text, "number": numbers})
        pq.write_table(table, folder / f"{n:05d}.parquet", row_group_size=_ROWS_A_GROUP)
    for n in range(_DISTINCT, files):
        shutil.copyfile(folder / f"{n % _DISTINCT:05d}.parquet", folder / f"{n:05d}.parquet")


def _job_file(folder: Path) -> Path:
    path = folder / "job.yaml"
    job = {
        "name": "planned",
        "input": {"uri": str(folder / "rows"), "prompt": "text"},
        "output": {"uri": str(folder / "out")},
        "model": {"id": "scripted://"},
    }
    path.write_text(yaml.safe_dump(job))
    return path
