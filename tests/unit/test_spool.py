"""Rows on a disk are as good as rows in memory."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import StoreDenied
from pipeline.core.rows import FinishedRow, TextPrompt
from pipeline.dataset import part_file
from pipeline.dataset.source import ParquetShard, ParquetSource
from pipeline.scratch import disk, sink, spool
from pipeline.scratch.spool import Spool, SpoolBounds
from pipeline.stores.bodies import whole
from tests.unit.datasets import OPTIONS, answered, job_over, part_of, planned, prompts, written
from tests.unit.strategies import bounded
from tests.unit.test_dataset_parts import ODD_CELLS

ON_DISK = SpoolBounds(in_memory_bytes=0, batch_rows=7, cache_rows=20)
"""Everything on disk, several batches for a few rows, and not all of them in the cache."""


def full_file() -> io.RawIOBase:
    return io.FileIO("/dev/full", "r+")


def on_disk(job_at: Path, **about: object) -> ParquetShard:
    job = job_over(job_at, **about)  # type: ignore[arg-type]
    plan = planned(job)
    [shard] = plan.shards
    return ParquetSource(job, plan.schema, OPTIONS, ON_DISK).open(shard)


@bounded
@given(
    tables=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    bounds=st.builds(
        SpoolBounds,
        in_memory_bytes=st.integers(0, 400),
        batch_rows=st.integers(1, 9),
        batch_bytes=st.integers(1, 200),
        cache_rows=st.integers(0, 30),
        cache_bytes=st.integers(0, 400),
    ),
    asked=st.lists(st.integers(0, 71), max_size=20),
)
def test_rows_come_back_as_they_were(
    tables: list[int], bounds: SpoolBounds, asked: list[int]
) -> None:
    kept = Spool(["q"], bounds)
    total = 0
    for rows in tables:
        numbers = range(total, total + rows)
        columns = {"n": pa.array(numbers, pa.int64()), "q": [f"question {n}" for n in numbers]}
        kept.append(pa.table(columns, schema=pa.schema([("n", pa.int64()), ("q", pa.string())])))
        total += rows
    assert kept.rows == total
    for row in asked:
        if row < total:
            batch, place = kept.row(row)
            assert batch.column("q")[place].as_py() == f"question {row}"
    for names in (["n", "q"], ["q"], ["n"], ["q", "n"], []):
        batches = list(kept.batches(names))
        assert sum(batch.num_rows for batch in batches) == total
        assert all(batch.schema.names == names for batch in batches)
        assert all(batch.num_rows <= bounds.batch_rows for batch in batches)
        if "n" in names:
            assert [n for b in batches for n in b.column("n").to_pylist()] == list(range(total))
    assert kept.on_disk == (kept._memory is None)


@pytest.mark.parametrize("cells", ODD_CELLS, ids=lambda cells: str(cells.type))
def test_cells_that_python_cannot_hold_pass_over_the_disk(tmp_path: Path, cells: pa.Array) -> None:
    many = pa.concat_arrays([cells] * 10)
    path = written(tmp_path / "b.parquet", {"q": ["a", "b", "c"] * 10, "odd": many})
    shard = on_disk(path)
    part = part_of(shard)
    assert shard.difference(part) is None
    job = job_over(path)
    plan = planned(job)
    in_memory = ParquetSource(job, plan.schema, OPTIONS).open(plan.shards[0])
    assert in_memory.difference(part) is None
    assert shard.difference(part_of(in_memory)) is None


def test_a_part_is_the_same_wherever_its_rows_lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "ROW_GROUP_ROWS", 16)
    columns = {"id": list(range(100)), "q": [f"q{n}" for n in range(100)]}
    path = written(tmp_path / "a.parquet", columns, row_group_size=30)
    shard = on_disk(path)
    [in_memory] = [
        ParquetSource(job_over(path), planned(job_over(path)).schema, OPTIONS).open(s)
        for s in planned(job_over(path)).shards
    ]
    assert part_of(shard) == part_of(in_memory)
    part = pq.ParquetFile(io.BytesIO(part_of(shard)))
    groups = [part.metadata.row_group(n).num_rows for n in range(part.num_row_groups)]
    assert groups == [16] * 6 + [4]
    assert part.schema_arrow.names[:2] == ["id", "q"]


def test_large_rows_make_short_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "_ROW_GROUP_BYTES", 2_000)
    path = written(tmp_path / "a.parquet", {"q": ["long" * 100] * 40})
    part = pq.ParquetFile(io.BytesIO(part_of(on_disk(path))))
    groups = [part.metadata.row_group(n).num_rows for n in range(part.num_row_groups)]
    assert sum(groups) == 40
    assert len(groups) > 4


def test_rows_are_asked_for_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": [f"q{n}" for n in range(100)], "n": range(100)})
    shard = on_disk(path, where="n % 2 = 0", columns=["n"])
    order = [row * 37 % 50 for row in range(50)]
    assert [shard.prompt(row) for row in order] == [TextPrompt(f"q{2 * row}") for row in order]
    assert len(shard._spool._cache) <= 3


@pytest.mark.parametrize(
    "where", ["n > (SELECT avg(n) FROM rows_of_shard)", "__spotmill_row > 49", "n > 49"]
)
def test_a_condition_means_the_shard_and_not_a_piece_of_it(tmp_path: Path, where: str) -> None:
    columns = {"q": [f"q{n}" for n in range(100)], "n": list(range(100))}
    path = written(tmp_path / "a.parquet", columns, row_group_size=30)
    assert prompts(job_over(path, where=where)) == [f"q{n}" for n in range(50, 100)]


def test_small_parts_are_bytes_and_large_ones_a_file_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for most, expected in ((10, bytes), (9, Path)):
        with sink.sink(most) as file:
            for piece in (b"12345", b"", b"67890"):
                assert file.write(piece) == len(piece)
            assert file.tell() == 10
            body = file.body()
            assert isinstance(body, expected)
            assert whole(body) == b"1234567890"
            assert len(list(tmp_path.iterdir())) == (expected is Path)
        assert not list(tmp_path.iterdir())


def test_what_killed_workers_left_goes_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, new, foreign = (tmp_path / n for n in ("spotmill-part-1", "spotmill-part-2", "other"))
    for path in (old, new, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    disk.named_file().close()
    assert sorted(tmp_path.iterdir()) == [foreign, new]


LEAVES = """
import os, sys, signal
import pyarrow as pa
from pipeline.core.rows import FinishedRow
from pipeline.scratch.finished_rows import SpilledRows
from pipeline.scratch.spool import Spool, SpoolBounds
kept, rows = Spool(["q"], SpoolBounds(in_memory_bytes=0)), SpilledRows(1, 1)
kept.append(pa.table({"q": ["x" * 1000] * 9000}))
for row in range(9000):
    rows[row] = FinishedRow(row, "x" * 1000)
assert kept.on_disk and rows[5].row == 5
print(*(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
        and os.path.lexists(f"/proc/self/fd/{fd}")), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    died = subprocess.run(
        [sys.executable, "-c", LEAVES], env=environment, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert died.stdout.count(str(tmp_path)) == 2
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"] * 100})
    monkeypatch.setattr(spool, "unnamed_file", full_file)
    with pytest.raises(StoreDenied, match="temporary files is full: the shard's rows") as refused:
        on_disk(path)
    assert refused.value.where == tempfile.gettempdir()
    assert refused.value.why == "No space left on device"
    assert "TMPDIR" in refused.value.hint


def test_a_part_that_finds_the_disk_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "named_file", full_file)
    with sink.sink(4) as file, pytest.raises(StoreDenied, match="is full: a part"):
        file.write(b"12345")


def test_a_folder_that_takes_no_file_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    path = written(tmp_path / "a.parquet", {"q": ["x"] * 100})
    with pytest.raises(StoreDenied, match="cannot be used: the shard's rows") as refused:
        on_disk(path)
    assert refused.value.where == str(tmp_path / "missing")


def test_too_few_or_too_many_answers_make_no_part(tmp_path: Path) -> None:
    shard = on_disk(written(tmp_path / "a.parquet", {"q": ["x"] * 20}))
    rows = answered(20)
    for wrong in (rows[:-1], [*rows, FinishedRow(20, "x")], [*rows[:8], *rows[9:]]):
        with pytest.raises(ValueError, match="every row of its shard exactly once"):
            part_of(shard, wrong)
