"""Rows that a condition selects are counted without reading prompts, as the run selects them."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import InputInvalid, JobInvalid
from pipeline.dataset.matching import Matching
from pipeline.job import JobSpec
from tests.unit.datasets import OPTIONS, job_over, opened, planned, written


def matching_of(job: JobSpec) -> tuple[Matching, dict[int, int]]:
    plan = planned(job)
    matching = Matching(job, plan.schema, OPTIONS)
    return matching, matching.rows(plan.shards)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = range(60)
    columns = {
        "q": [f"q{n}" for n in rows],
        "n": list(rows),
        "x": [math.nan if n % 7 == 0 else None if n % 5 == 0 else n / 3 for n in rows],
        "day": pa.array([20_000 + n // 9 for n in rows], pa.int32()).view(pa.date32()),
        "lang": pa.array(["en" if n % 3 else None for n in rows]).dictionary_encode(),
        "of": [{"user": n % 11} for n in rows],
        "a.b": [n % 2 for n in rows],
    }
    written(tmp_path / "in" / "a.parquet", columns, row_group_size=30)
    return tmp_path / "in"


@pytest.mark.parametrize("shard_rows", [20, 1_000])
@pytest.mark.parametrize(
    "where",
    [
        "n < 20",
        "n BETWEEN 25 AND 34 AND lang IS NOT NULL",
        "x > 12 OR lang IN ('fr', 'de')",
        "x <= 12 OR x IS NULL",
        "day = '2024-10-06'",
        "of.user = 3",
        '"a.b" = 1',
        "n = (SELECT max(n) FROM rows_of_shard)",
        "__spotmill_row < 3",
        "COLUMNS(*)::VARCHAR <> '5'",
        "false",
        "true -- all of them",
    ],
)
def test_as_many_rows_as_the_run_selects(dataset: Path, where: str, shard_rows: int) -> None:
    job = job_over(dataset, where=where, shard_rows=shard_rows)
    selected = {number: shard.rows for number, shard in enumerate(opened(job))}
    assert matching_of(job)[1] == selected


def test_without_a_condition_every_row_is_and_no_file_is_read(dataset: Path) -> None:
    job = job_over(dataset)
    plan = planned(job)
    (dataset / "a.parquet").unlink()
    assert Matching(job, plan.schema, OPTIONS).rows(plan.shards) == {0: 60}


def test_a_row_group_that_can_hold_none_is_not_read(dataset: Path) -> None:
    job = job_over(dataset, where="n >= 30 AND n < 50", shard_rows=1_000)
    file = dataset / "a.parquet"
    body = bytearray(file.read_bytes())
    metadata = pq.read_metadata(file)
    column = metadata.row_group(0).column(1)
    first = column.dictionary_page_offset or column.data_page_offset
    body[first : first + column.total_compressed_size] = bytes(column.total_compressed_size)
    file.write_bytes(body)
    assert matching_of(job)[1] == {0: 20}
    with pytest.raises(InputInvalid):
        opened(job)


def test_a_condition_that_fails_on_a_row_is_refused(dataset: Path) -> None:
    with pytest.raises(JobInvalid, match="does not work"):
        matching_of(job_over(dataset, where="CAST(q AS INTEGER) > 3"))


def test_of_a_shard_the_share_is_told_that_the_condition_reads(tmp_path: Path) -> None:
    columns = {"q": ["word " * 200 + str(n) for n in range(500)], "n": list(range(500))}
    job = job_over(written(tmp_path / "a.parquet", columns, compression="none"), where="n < 3")
    [shard] = planned(job).shards
    assert 0 < matching_of(job)[0].share_read(shard) < 0.2
