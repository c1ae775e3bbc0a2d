"""The published file: every row once and in order, carried columns intact, the manifest inside."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import InputChanged, JobInvalid
from pipeline.core.rows import FinishedRow, PositionLogprobs, TokenLogprob
from pipeline.dataset.file_format import ParquetFormat
from pipeline.dataset.outputs import LOGPROBS, OUTPUT_SCHEMA
from pipeline.dataset.plan_file import decode_plan, encode_plan
from pipeline.dataset.planning import input_fingerprint
from pipeline.dataset.source import ParquetSource
from tests.unit.datasets import OPTIONS, answered, job_over, opened, part_of, planned, written

QUESTIONS = [f"question {n}" for n in range(40)]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    columns = {"id": list(range(40)), "q": QUESTIONS, "x": [n / 3 for n in range(40)]}
    return written(tmp_path / "a.parquet", columns, row_group_size=15)


def test_a_part_is_the_carried_columns_and_then_the_outputs(dataset: Path) -> None:
    source = pq.read_table(dataset)
    for index, shard in enumerate(opened(job_over(dataset, columns=["x", "id"], shard_rows=15))):
        finished = answered(shard.rows)
        part = pq.read_table(io.BytesIO(part_of(shard, finished)))
        assert part.schema.names == ["x", "id", *OUTPUT_SCHEMA.names]
        assert part.select(OUTPUT_SCHEMA.names).schema.equals(OUTPUT_SCHEMA)
        expected = source.slice(index * 15, shard.rows)
        assert part.column("x").equals(expected.column("x"))
        assert part.column("id").equals(expected.column("id"))
        for name in OUTPUT_SCHEMA.names:
            assert part.column(name).to_pylist() == [getattr(row, name) for row in finished]


def test_logprobs_have_a_column_where_the_job_asks_for_them(dataset: Path) -> None:
    for sampling in ({"logprobs": 2}, {"columns": {"logprobs": "id"}}):
        [shard] = opened(job_over(dataset, sampling=sampling))
        finished = answered(shard.rows)
        told = (
            PositionLogprobs("a", 7, -0.5, (TokenLogprob("a", 7, -0.5), TokenLogprob("", 8, -1.5))),
            PositionLogprobs("b", 9, -2.0),
        )
        finished[3] = replace(finished[3], logprobs=told)
        part = part_of(shard, finished)
        column = pq.read_table(io.BytesIO(part)).column("logprobs")
        assert column.type == LOGPROBS.type
        assert column[2].as_py() is None
        assert FinishedRow.from_json({"row": 0, "logprobs": column[3].as_py()}).logprobs == told
        assert shard.difference(part) is None
    [without] = opened(job_over(dataset))
    assert "logprobs" not in pq.read_schema(io.BytesIO(part_of(without))).names
    assert shard.difference(part_of(without)) == "column 'logprobs' is missing"


def test_an_input_may_have_a_column_of_logprobs_unless_the_job_asks_for_them(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], "logprobs": [1]})
    opened(job_over(path))
    with pytest.raises(JobInvalid, match="'logprobs' has the name of an output column"):
        opened(job_over(path, sampling={"logprobs": 0}))


def test_the_footer_holds_the_manifest(dataset: Path) -> None:
    [shard] = opened(job_over(dataset))
    manifest = '{"run_id": "nächtlich"}'.encode()
    part = part_of(shard, manifest=manifest)
    assert ParquetFormat().manifest_of_part(part) == manifest


@pytest.mark.parametrize("body", [b"", b"no parquet", b"PAR1" * 5])
def test_what_is_no_part_has_no_manifest(body: bytes) -> None:
    assert ParquetFormat().manifest_of_part(body) is None


def test_a_parquet_file_of_somebody_else_has_no_manifest(dataset: Path) -> None:
    assert ParquetFormat().manifest_of_part(dataset.read_bytes()) is None


def test_a_part_of_other_rows_than_the_shards_is_never_made(dataset: Path) -> None:
    [shard] = opened(job_over(dataset))
    rows = answered(40)
    for wrong in ([], rows[:-1], rows[1:], [*rows, rows[0]], [*rows[1:], rows[0]]):
        with pytest.raises(ValueError, match="every row of its shard exactly once"):
            part_of(shard, wrong)


def test_the_writers_pandas_metadata_is_not_passed_on(tmp_path: Path) -> None:
    table = pa.table({"q": ["x"]}).replace_schema_metadata({"pandas": "{}", "mine": "yes"})
    [shard] = opened(job_over(written(tmp_path / "b.parquet", table)))
    metadata = pq.read_metadata(io.BytesIO(part_of(shard))).metadata
    assert b"pandas" not in metadata


def rewritten(part: bytes, table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_a_difference_is_found(dataset: Path) -> None:
    [shard] = opened(job_over(dataset))
    part = part_of(shard)
    table = pq.read_table(io.BytesIO(part))
    assert shard.difference(part) is None
    order = pa.array([1, 0, *range(2, 40)])
    swapped = table.take(order)
    null_text = pa.nulls(40, pa.string())
    both = table.set_column(table.schema.names.index("error"), "error", pa.array(["x"] * 40))
    for wrong, said in (
        (swapped, "column 'id' is not the input's"),
        (table.slice(1), "39 rows, the input has 40"),
        (pa.concat_tables([table, table.slice(0, 1)]), "41 rows"),
        (table.drop_columns(["x"]), "column 'x' is missing"),
        (table.drop_columns(["completion"]), "column 'completion' is missing"),
        (table.set_column(2, "x", pc.add(table.column("x"), 1.0)), "column 'x' is not the input's"),
        (table.set_column(3, "completion", null_text), "neither, or both"),
        (both, "neither, or both"),
    ):
        found = shard.difference(rewritten(part, wrong))
        assert found is not None
        assert said in found


def test_rows_that_differ_in_one_nullable_cell_are_found(tmp_path: Path) -> None:
    path = written(tmp_path / "b.parquet", {"q": ["a", "b"], "x": [None, 1.0]})
    [shard] = opened(job_over(path))
    table = pq.read_table(io.BytesIO(part_of(shard)))
    filled = table.set_column(1, "x", pa.array([0.0, 1.0]))
    assert shard.difference(rewritten(b"", filled)) is not None


@pytest.mark.parametrize("change", ["rewritten", "longer", "gone"])
def test_an_input_that_changed_since_the_plan_stops_the_run(dataset: Path, change: str) -> None:
    job = job_over(dataset)
    plan = planned(job)
    source = ParquetSource(job, plan.schema, OPTIONS)
    assert source.open(plan.shards[0]).rows == 40
    if change == "gone":
        dataset.unlink()
    elif change == "longer":
        written(dataset, {"id": [1], "q": ["other"], "x": [0.5]})
    else:
        body = dataset.read_bytes()
        dataset.write_bytes(body)
        os.utime(dataset, (1, 1))
    with pytest.raises(InputChanged, match="changed since the run was planned") as stopped:
        source.open(plan.shards[0])
    assert stopped.value.where == str(dataset)
    assert ("it is gone" in stopped.value.why) == (change == "gone")


def test_a_plan_survives_its_file(dataset: Path) -> None:
    plan = planned(job_over(dataset, shard_rows=7))
    again = decode_plan(encode_plan(plan))
    assert again.shards == plan.shards
    assert again.schema.equals(plan.schema, check_metadata=True)
    assert encode_plan(again) == encode_plan(plan)


def test_the_inputs_fingerprint_follows_its_files_and_not_their_place(
    dataset: Path, tmp_path: Path
) -> None:
    plan = planned(job_over(dataset))
    moved = replace(
        plan, shards=tuple(replace(s, uri=f"s3://b/{dataset.name}") for s in plan.shards)
    )
    touched = replace(plan, shards=tuple(replace(s, etag="other") for s in plan.shards))
    assert input_fingerprint(moved) == input_fingerprint(plan)
    assert input_fingerprint(touched) != input_fingerprint(plan)
    written(tmp_path / "b.parquet", {"id": [1], "q": ["x"], "x": [0.5]})
    assert input_fingerprint(planned(job_over(tmp_path))) != input_fingerprint(plan)


def test_any_text_is_published_as_it_is(tmp_path: Path) -> None:
    odd = ["", " ", "a\x00b", "ü\n", "\U0001f600" * 100]
    [shard] = opened(job_over(written(tmp_path / "b.parquet", {"q": ["x"] * len(odd)})))
    rows = [FinishedRow(row, text, "stop") for row, text in enumerate(odd)]
    part = part_of(shard, rows)
    assert pq.read_table(io.BytesIO(part)).column("completion").to_pylist() == odd
    assert shard.difference(part) is None


NOT_UTF8 = pa.array([b"x", b"\xff\xfe", None], pa.binary()).view(pa.string())
ODD_CELLS = [
    NOT_UTF8,
    NOT_UTF8.dictionary_encode(),
    pa.StructArray.from_arrays([NOT_UTF8, pa.array([float("nan")] * 3)], ["text", "number"]),
    pa.ListArray.from_arrays(
        pa.array([0, 1, 2, 3]),
        pa.StructArray.from_arrays([NOT_UTF8, pa.array([float("nan")] * 3)], ["text", "number"]),
    ),
    pa.MapArray.from_arrays(
        pa.array([0, 1, 2, 2]),
        pa.array([b"\xff", b"k"], pa.binary()).view(pa.string()),
        pa.array([float("nan"), float("nan")]),
    ),
    pa.array([2**61, None, 0], pa.timestamp("us")),
]


@pytest.mark.parametrize("cells", ODD_CELLS, ids=lambda cells: str(cells.type))
def test_cells_that_python_cannot_hold_are_published_as_they_are(
    tmp_path: Path, cells: pa.Array
) -> None:
    path = written(tmp_path / "b.parquet", {"q": ["a", "b", "c"], "odd": cells})
    [shard] = opened(job_over(path))
    part = part_of(shard)
    assert shard.difference(part) is None
    table = pq.read_table(io.BytesIO(part))
    order = pa.array([1, 0, 2])
    for wrong in (table.take(order), table.set_column(1, "odd", pa.nulls(3, cells.type))):
        other = wrong.set_column(0, "q", table.column("q"))
        assert shard.difference(rewritten(part, other)) == (
            "row 0: column 'odd' is not the input's"
        )


@pytest.mark.parametrize("kind", ["page", "footer", "half", "nothing"])
def test_a_damaged_part_is_a_difference_in_words(dataset: Path, kind: str) -> None:
    [shard] = opened(job_over(dataset))
    part = part_of(shard)
    damaged = {
        "page": part[:4] + b"\xff" * 600 + part[604:],
        "footer": part[:-60] + b"\xff" * 52 + part[-8:],
        "half": part[: len(part) // 2],
        "nothing": b"",
    }[kind]
    found = shard.difference(damaged)
    assert found is not None
    assert found.startswith("it is not a whole Parquet file: ")
    if kind != "page":
        assert ParquetFormat().manifest_of_part(damaged) is None
