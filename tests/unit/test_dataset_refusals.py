"""A dataset that no run can be made of is refused at the plan, in words and without waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.core.errors import InputInvalid, JobInvalid, SpotmillError
from tests.unit.datasets import job_over, opened, planned, written

# A file that is broken stays broken: nobody should wait for a minute of retries.
pytestmark = pytest.mark.timeout(15)


@pytest.mark.parametrize("place", ["gone", "gone/", "gone.parquet", "gone/*.parquet"])
def test_a_place_that_is_not_there(tmp_path: Path, place: str) -> None:
    with pytest.raises(InputInvalid, match="no Parquet file is there") as refused:
        planned(job_over(f"{tmp_path}/{place}"))
    assert refused.value.where == f"{tmp_path}/{place}"


def test_a_directory_without_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="no Parquet file is there"):
        planned(job_over(tmp_path))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "data.csv").write_text("q\nx\n")
    with pytest.raises(InputInvalid, match="no Parquet file is there"):
        planned(job_over(tmp_path))


def test_a_dataset_without_rows(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", pa.table({"q": ["x"]}).slice(0, 0))
    written(tmp_path / "b.parquet", pa.table({"q": ["x"]}).slice(0, 0))
    with pytest.raises(InputInvalid, match="holds no rows"):
        planned(job_over(tmp_path))


def parquet_bytes(tmp_path: Path) -> bytes:
    table = pa.table({"q": [f"question {n}" for n in range(500)]})
    return written(tmp_path / "whole" / "a.parquet", table, use_dictionary=False).read_bytes()


@pytest.mark.parametrize(
    "kind", ["nothing", "text", "truncated", "head only", "footer", "encrypted"]
)
def test_a_file_that_is_no_whole_parquet_file(tmp_path: Path, kind: str) -> None:
    whole = parquet_bytes(tmp_path)
    broken = {
        "nothing": b"",
        "text": b"question\nwhat?\n" * 50,
        "truncated": whole[: len(whole) // 2],
        "head only": whole[:4],
        "footer": whole[:-60] + b"\xff" * 52 + whole[-8:],
        "encrypted": whole[:-4] + b"PARE",
    }[kind]
    path = tmp_path / "in" / "broken.parquet"
    path.parent.mkdir()
    path.write_bytes(broken)
    with pytest.raises(InputInvalid, match="not a whole Parquet file") as refused:
        planned(job_over(path.parent))
    assert refused.value.where == str(path)
    assert refused.value.why


@pytest.mark.parametrize("kind", ["data", "page header"])
def test_a_page_that_is_broken_is_found_when_it_is_read(tmp_path: Path, kind: str) -> None:
    whole = parquet_bytes(tmp_path)
    broken = {
        "data": whole[:60] + b"\x00" * 900 + whole[960:],
        "page header": whole[:4] + b"\xff" * 20 + whole[24:],
    }[kind]
    path = tmp_path / "broken.parquet"
    path.write_bytes(broken)
    with pytest.raises(InputInvalid) as refused:
        opened(job_over(path))
    assert refused.value.where == str(path)


@pytest.mark.parametrize(
    ("prompt", "where"),
    [
        ({"prompt": "questoin"}, "input.prompt"),
        ({"messages": "questoin"}, "input.messages"),
        ({"template": "{{ questoin }}"}, "input.template"),
        ({"prompt": "question", "columns": ["questoin"]}, "input.columns"),
    ],
)
def test_a_missing_column_is_guessed(tmp_path: Path, prompt: dict[str, Any], where: str) -> None:
    path = written(tmp_path / "a.parquet", {"question": ["x"], "id": [1]})
    with pytest.raises(JobInvalid, match=r"'questoin'; did you mean question\?") as refused:
        planned(job_over(path, **prompt))
    assert refused.value.where == f"{where}, {path}"


def test_a_missing_sampling_column_is_guessed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], "temp": [0.5]})
    with pytest.raises(JobInvalid, match=r"no column 'tmp'; did you mean temp\?") as refused:
        planned(job_over(path, sampling={"columns": {"temperature": "tmp"}}))
    assert "sampling.columns" in refused.value.where


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [b"a", b"b"],
        [["a"], ["b"]],
        [{"a": 1}, {"a": 2}],
        pa.array([1, 2]).dictionary_encode(),
    ],
)
def test_a_prompt_that_is_no_text(tmp_path: Path, values: object) -> None:
    path = written(tmp_path / "a.parquet", {"q": values})
    with pytest.raises(JobInvalid, match="not text") as refused:
        planned(job_over(path))
    assert "input.prompt" in refused.value.where


@pytest.mark.parametrize(
    "values", [[1], [["hi"]], [{"role": "user", "content": "x"}], [[{"role": "u"}]]]
)
def test_messages_that_are_none(tmp_path: Path, values: object) -> None:
    path = written(tmp_path / "a.parquet", {"m": values})
    with pytest.raises(JobInvalid, match="not a list of messages"):
        planned(job_over(path, messages="m"))


def test_a_file_without_a_column_that_the_first_has(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", {"q": ["x"], "id": [1]})
    other = written(tmp_path / "b.parquet", {"q": ["x"]})
    with pytest.raises(InputInvalid, match="'id' is missing") as refused:
        planned(job_over(tmp_path))
    assert refused.value.where == str(other)
    assert len(planned(job_over(tmp_path, columns=[])).shards) == 2


def test_a_file_whose_column_has_another_type(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", {"q": ["x"], "id": [1]})
    other = written(tmp_path / "b.parquet", {"q": ["x"], "id": ["1"]})
    with pytest.raises(InputInvalid, match="'id' is string, in the first file int64") as refused:
        planned(job_over(tmp_path))
    assert refused.value.where == str(other)


def test_columns_may_differ_where_nobody_reads_them(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", {"q": ["x"], "id": [1], "x": [1]})
    written(tmp_path / "b.parquet", {"x": ["s"], "id": [1], "q": ["y"]})
    plan = planned(job_over(tmp_path, columns=["id"]))
    assert len(plan.shards) == 2


@pytest.mark.parametrize("first", [True, False])
def test_two_columns_of_one_name(tmp_path: Path, first: bool) -> None:
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["q", "q"])
    written(tmp_path / ("a.parquet" if first else "b.parquet"), twice)
    written(tmp_path / ("b.parquet" if first else "a.parquet"), {"q": ["x"]})
    with pytest.raises(InputInvalid, match="two columns are named 'q'"):
        planned(job_over(tmp_path))


@pytest.mark.parametrize("name", ["completion", "error", "finish_reason", "prompt_tokens"])
def test_a_carried_column_with_the_name_of_an_output(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"], name: ["y"]})
    with pytest.raises(JobInvalid, match=f"{name!r} has the name of an output column") as refused:
        planned(job_over(path))
    assert "input.columns" in refused.value.hint
    assert planned(job_over(path, columns=["q"])).rows == 1
    assert planned(job_over(path, prompt=name, columns=["q"])).rows == 1


@pytest.mark.parametrize(
    "template", ["{{ q", "{% if q %}", "{{ q | nosuchfilter }}", "{{ q is odder }}"]
)
def test_a_template_that_is_none(tmp_path: Path, template: str) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"]})
    with pytest.raises(JobInvalid, match="no valid Jinja") as refused:
        planned(job_over(path, template=f"first line\n{template}"))
    assert refused.value.where == "input.template, line 2"
    assert refused.value.why


def test_every_refusal_says_where(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(SpotmillError) as refused:
            planned(job_over(place))
        assert str(place) in str(refused.value)
        assert "what to do" in str(refused.value)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
def test_a_damaged_page_is_never_taken_for_a_store_that_may_come_back(
    tmp_path: Path, codec: str, version: str
) -> None:
    """Whatever the codec says of it: the file is wrong, and stays so."""
    table = pa.table({"q": [f"question {n * 7919 % 1009}" for n in range(3_000)]})
    options = {"compression": codec, "data_page_version": version, "use_dictionary": False}
    whole = written(tmp_path / "whole" / "a.parquet", table, **options).read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path = tmp_path / "broken.parquet"
    complaints = 0
    for place in range(60, footer - 40, footer // 6):
        for filler in (b"\x00", b"\xff"):
            path.write_bytes(whole[:place] + filler * 40 + whole[place + 40 :])
            try:
                opened(job_over(path))
            except InputInvalid as refused:
                assert refused.where == str(path)
                complaints += 1
    # Without a codec's checksum, some damage reads as other text.
    assert complaints >= 1
