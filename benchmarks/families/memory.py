"""A worker's memory with a small and with a large shard, behind an engine that needs none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks import child
from benchmarks.child import Ended
from benchmarks.figure import Figure, Record, Target
from benchmarks.setting import Setting
from pipeline import wiring
from pipeline.at_hand import open_job

_SMALL = 10_000
_GROUP = 10_000


def measure(setting: Setting) -> Iterator[Record]:
    large = setting.of_size(50_000, 250_000, 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        small = _worker(Path(name), _SMALL)
        big = _worker(Path(name), large)
    yield Figure(
        "memory.flat",
        f"peak memory, {large:,} rows a shard / {_SMALL:,}",
        big.peak_bytes / small.peak_bytes,
        f"largest resident set of a worker's process: {big.peak_bytes / 1e6:.0f} MB / "
        f"{small.peak_bytes / 1e6:.0f} MB; scripted engine"
        + ("" if setting.size == "full" else "; the asked 1,000,000 rows with `--full`"),
        target=Target(1.10, at_least=False),
    )
    yield Figure(
        "memory.rate",
        "rows a second of that worker",
        large / big.wall_seconds,
        "whole process; all of it is work around an engine, for this one answers at once",
        unit="rows/s",
    )


def _worker(folder: Path, rows: int) -> Ended:
    where = folder / str(rows)
    (where / "rows").mkdir(parents=True)
    _write_rows(where / "rows" / "part.parquet", rows)
    job_file = where / "job.yaml"
    job_file.write_text(yaml.safe_dump(_job(where, rows)))
    here = open_job(str(job_file), run_id="bench")
    plan = wiring.plan(here)
    command = child.module("pipeline.cli", "worker", job_file, "--run-id", "bench", "--json")
    ended = child.run(command, child.environment("cpu"), seconds=3_000)
    manifest = wiring.close_books(here, plan)
    if manifest["output"]["rows_ok"] != rows:
        raise ValueError(f"{manifest['output']} rows are answered, not {rows}")
    return ended


def _write_rows(path: Path, rows: int) -> None:
    with pq.ParquetWriter(path, pa.schema({"id": pa.int64(), "text": pa.string()})) as writer:
        for first in range(0, rows, _GROUP):
            ids = range(first, min(rows, first + _GROUP))
            texts = [f"Row {n} asks about order {n * 7919 % 1_000_003}." for n in ids]
            writer.write_table(pa.table({"id": pa.array(ids, pa.int64()), "text": texts}))


def _job(where: Path, rows: int) -> dict[str, object]:
    return {
        "name": "memory",
        "input": {"uri": str(where / "rows"), "prompt": "text"},
        "output": {"uri": str(where / "out")},
        "model": {"id": "scripted://?window=256&tokens=4"},
        "sampling": {"max_tokens": 4},
        "shards": {"rows": rows},
        "fleet": {"workers": 1},
    }
