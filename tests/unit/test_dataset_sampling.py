"""A row may override the job's sampling through columns; nonsense is that row's error."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.core.errors import RowRejected
from pipeline.core.rows import Sampling
from pipeline.dataset.source import ParquetShard
from tests.unit.datasets import job_over, opened, written


def shard(tmp_path: Path, parameter: str, cells: list[object], kind: pa.DataType) -> ParquetShard:
    path = written(tmp_path / "a.parquet", {"q": ["x"] * len(cells), "own": pa.array(cells, kind)})
    sampling = {"temperature": 0.5, "max_tokens": 9, "columns": {parameter: "own"}}
    [found] = opened(job_over(path, sampling=sampling, columns=["q"]))
    return found


def test_without_columns_every_row_has_the_jobs_sampling(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x", "y"]})
    [found] = opened(job_over(path, sampling={"temperature": 0.5, "stop": "END"}))
    assert found.sampling(0) == found.sampling(1) == Sampling(temperature=0.5, stop=("END",))


@pytest.mark.parametrize(
    ("parameter", "cell", "kind", "meant"),
    [
        ("temperature", 0.25, pa.float32(), 0.25),
        ("temperature", 1, pa.int8(), 1.0),
        ("temperature", Decimal("0.25"), pa.decimal128(4, 2), 0.25),
        ("max_tokens", 77, pa.uint16(), 77),
        ("max_tokens", 77.0, pa.float64(), 77),
        ("seed", 2**40, pa.int64(), 2**40),
        ("stop", ["a", "b"], pa.list_(pa.string()), ("a", "b")),
        ("stop", "a", pa.large_string(), ("a",)),
        ("top_k", -1, pa.int32(), -1),
    ],
)
def test_a_cell_overrides_and_a_null_does_not(
    tmp_path: Path, parameter: str, cell: object, kind: pa.DataType, meant: object
) -> None:
    found = shard(tmp_path, parameter, [cell, None], kind)
    base = Sampling(temperature=0.5, max_tokens=9)
    assert getattr(found.sampling(0), parameter) == meant
    assert found.sampling(1) == base


@pytest.mark.parametrize(
    ("parameter", "cell", "kind"),
    [
        ("temperature", -0.1, pa.float64()),
        ("temperature", float("nan"), pa.float64()),
        ("temperature", float("inf"), pa.float64()),
        ("temperature", "warm", pa.string()),
        ("top_p", 0.0, pa.float64()),
        ("top_p", 1.5, pa.float64()),
        ("max_tokens", 0, pa.int64()),
        ("max_tokens", -5, pa.int64()),
        ("max_tokens", 1.5, pa.float64()),
        ("min_p", 2.0, pa.float64()),
        ("repetition_penalty", 0.0, pa.float64()),
        ("stop", 5, pa.int64()),
    ],
)
def test_a_cell_out_of_range_is_that_rows_error(
    tmp_path: Path, parameter: str, cell: object, kind: pa.DataType
) -> None:
    found = shard(tmp_path, parameter, [None, cell, None], kind)
    with pytest.raises(RowRejected, match="sampling column") as rejected:
        found.sampling(1)
    assert parameter in str(rejected.value)
    # It stands in a column of the output: one line, for people.
    assert "\n" not in str(rejected.value)
    assert "http" not in str(rejected.value)
    assert found.sampling(0) == found.sampling(2)


@pytest.mark.parametrize(
    ("parameter", "cell", "kind", "own"),
    [
        ("max_tokens", 4, pa.int64(), {"min_tokens": 5}),
        ("min_tokens", 10, pa.int64(), {}),
        ("seed", 2**63, pa.uint64(), {}),
        ("stop", "", pa.string(), {}),
        ("stop", ["END", ""], pa.list_(pa.string()), {}),
    ],
)
def test_what_the_engine_would_choke_on_is_that_rows_error(
    tmp_path: Path, parameter: str, cell: object, kind: pa.DataType, own: dict[str, int]
) -> None:
    cells = pa.array([None, cell], kind)
    path = written(tmp_path / "a.parquet", {"q": ["x", "y"], "own": cells})
    sampling = {"max_tokens": 9, "columns": {parameter: "own"}} | own
    [found] = opened(job_over(path, sampling=sampling, columns=["q"]))
    with pytest.raises(RowRejected, match=f"sampling column 'own' for {parameter}: ") as rejected:
        found.sampling(1)
    assert "Value error" not in str(rejected.value)
    assert found.sampling(0) == Sampling(max_tokens=9, min_tokens=own.get("min_tokens", 0))


def test_a_cell_that_python_cannot_hold_is_that_rows_error(tmp_path: Path) -> None:
    cells = pa.array([b"END", b"\xff\xfe"], pa.binary()).view(pa.string())
    path = written(tmp_path / "a.parquet", {"q": ["x", "y"], "own": cells})
    [found] = opened(job_over(path, sampling={"columns": {"stop": "own"}}))
    assert found.sampling(0) == Sampling(stop=("END",))
    with pytest.raises(
        RowRejected, match=r"sampling column 'own' for stop cannot be read: .*utf-8"
    ):
        found.sampling(1)
