"""Plans of many files and shards: one listing, few footers ahead, the same bytes every time."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.child import module, run
from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.errors import InputChanged, InputInvalid
from pipeline.core.shard_list import ShardList
from pipeline.core.shards import FileVersion, InputFile, Shard, plan_shards
from pipeline.dataset.files import check_versions, discover
from pipeline.dataset.footers import read_footers
from pipeline.dataset.plan_file import Origin, Plan, decode_plan, encode_plan
from pipeline.dataset.planning import input_fingerprint
from pipeline.stores.options import StoreOptions
from tests.e2e.house import job_file
from tests.s3 import LossyProxy, S3Bucket
from tests.unit.datasets import OPTIONS, job_over, planned, written
from tests.unit.strategies import bounded
from tests.unit.test_shards import datasets, limits

SCHEMA = pa.schema([("q", pa.string())])
MANY = 70


@bounded
@given(datasets(), limits, st.data())
def test_a_list_of_shards_is_the_shards(
    files: list[InputFile], limit: int, data: st.DataObject
) -> None:
    shards = list(plan_shards(files, limit))
    listed = ShardList(plan_shards(files, limit))
    assert list(listed) == shards
    assert listed == shards
    assert listed != [*shards, Shard(0, "f", "e", 1, (), 0, 1, 1)]
    assert (listed.rows, listed.bytes) == (
        sum(s.rows for s in shards),
        sum(s.bytes for s in shards),
    )
    index = data.draw(st.integers(-len(shards) - 1, len(shards)))
    part = slice(*data.draw(st.tuples(*(3 * [st.none() | st.integers(1, 5)]))))
    assert listed[part] == shards[part]
    if -len(shards) <= index < len(shards):
        assert listed[index] == shards[index]
    else:
        with pytest.raises(IndexError):
            listed[index]


@bounded
@given(datasets(), limits, st.booleans())
def test_a_plan_survives_its_file_whatever_its_shards(
    files: list[InputFile], limit: int, copied: bool
) -> None:
    shards = list(plan_shards(files, limit))
    origin = Origin((FileVersion("ü", "e", 1), FileVersion("b", "f", 2)), 7, 99)
    plan = Plan(shards, SCHEMA, origin if copied else None)
    body = encode_plan(plan)
    again = decode_plan(body)
    assert (again, again.schema) == (plan, SCHEMA)
    assert encode_plan(again) == body


def test_a_plan_is_written_in_pieces_and_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.plan_file._SHARDS_AT_ONCE", 3)
    shards = [Shard(i, f"f{i // 4}", "e", 9, (i, i + 2), 0, 5, 50 + i) for i in range(10)]
    assert decode_plan(encode_plan(Plan(shards, SCHEMA))).shards == shards


def test_a_shard_of_another_version_of_its_file_is_kept_as_it_is() -> None:
    shards = [Shard(i, "f", etag, 9, (i,), 0, 5, 50) for i, etag in enumerate("aba")]
    assert decode_plan(encode_plan(Plan(shards, SCHEMA))).shards == shards


def test_footers_are_read_a_few_files_ahead_and_no_more(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x"] * 3})
    taken = 0

    def files() -> Iterator[FileVersion]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield FileVersion(str(path), f"e{number}", 1)

    footers = read_footers(files(), OPTIONS)
    assert taken == 0
    first, schema = next(footers)
    assert taken <= 32
    rest = list(footers)
    assert [file.etag for file, _ in rest] == [f"e{number}" for number in range(1, 200)]
    assert first.rows == 3
    assert all(its is schema for _, its in rest), "a thousand equal schemas are one"


def test_a_broken_footer_ends_the_stream_where_it_stands(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.parquet", {"q": ["x"]})
    broken = tmp_path / "b.parquet"
    broken.write_bytes(b"PAR1 and no more")
    files = [FileVersion(str(path), "e", 1) for path in (whole, broken, *[whole] * 100)]
    footers = read_footers(files, OPTIONS)
    assert next(footers)[0].rows == 1
    with pytest.raises(InputInvalid) as stopped:
        next(footers)
    assert stopped.value.where == str(broken)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    for number in range(40):
        columns = {"q": [f"{number}-{row}" for row in range(number % 7)]}
        written(tmp_path / f"{number}.parquet", pa.table(columns, SCHEMA), row_group_size=2)
    job = job_over(tmp_path, shard_rows=3)
    assert len({encode_plan(planned(job)) for _ in range(4)}) == 1


# Listings.


@pytest.fixture
def many(s3_bucket: S3Bucket, s3_client: Any) -> S3Bucket:
    sink = io.BytesIO()
    pq.write_table(pa.table({"q": ["x"]}), sink)
    for number in range(MANY):
        key = f"in/{number:03d}.parquet"
        s3_client.put_object(Bucket=s3_bucket.name, Key=key, Body=sink.getvalue())
    return s3_bucket


def test_a_listing_tells_versions_without_a_request_for_each(many: S3Bucket) -> None:
    proxy = LossyProxy(many.endpoint_url)
    try:
        options = StoreOptions(endpoint_url=proxy.endpoint_url)
        for uri in (f"{many.uri}/in/", f"{many.uri}/in/*.parquet", f"{many.uri}/in"):
            proxy.requests.clear()
            files = discover(uri, options)
            assert len(files) == MANY
            assert len(proxy.requests) <= 5, proxy.requests
        proxy.requests.clear()
        check_versions(files, options)
        assert len(proxy.requests) <= 2, proxy.requests
    finally:
        proxy.close()


@pytest.mark.parametrize("change", ["gone", "rewritten"])
def test_one_of_many_files_that_changed_is_found(many: S3Bucket, change: str) -> None:
    files = discover(f"{many.uri}/in/", many.options)
    check_versions(files, many.options)
    index = MANY // 2
    changed = [*files[:index], replace(files[index], etag="other"), *files[index + 1 :]]
    if change == "gone":
        changed[index] = replace(files[index], uri=f"{many.uri}/in/x.parquet")
    with pytest.raises(InputChanged) as stopped:
        check_versions(changed, many.options)
    assert stopped.value.where == changed[index].uri
    assert ("it is gone" in stopped.value.why) == (change == "gone")


@pytest.mark.parametrize("name", ["in", "in/", "in/*.parquet", "in/a.parquet"])
def test_a_link_is_the_file_it_leads_to(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "elsewhere/a.parquet", {"q": ["x"]})
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").symlink_to(path)
    place = f"{tmp_path}/{name}"
    files = discover(place, OPTIONS)
    check_versions(files, OPTIONS)
    os.utime(path, (1, 1))
    with pytest.raises(InputChanged):
        check_versions(files, OPTIONS)
    path.unlink()
    with pytest.raises(InputInvalid):
        discover(place, OPTIONS)


# Joining a run again.


def job_beside(tmp_path: Path) -> str:
    return str(
        job_file(
            tmp_path / "job.yaml",
            name="n",
            input={"uri": "prompts/", "prompt": "q"},
            output={"uri": "answers/"},
            model={"id": "scripted://"},
        )
    )


def spoil(path: Path) -> None:
    """Other bytes that a listing cannot tell from those that were there."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_run_is_joined_without_its_footers(tmp_path: Path) -> None:
    path = written(tmp_path / "prompts/a.parquet", {"q": ["x", "y"]})
    job = job_beside(tmp_path)
    made = wiring.plan(open_job(job, "night"))
    spoil(path)
    assert wiring.plan(open_job(job, "night")) == made


def test_files_without_rows_do_not_keep_a_run_from_being_joined(tmp_path: Path) -> None:
    written(tmp_path / "prompts/a.parquet", pa.table({"q": ["x"]}))
    written(tmp_path / "prompts/b.parquet", pa.table({"q": pa.array([], pa.string())}))
    job = job_beside(tmp_path)
    assert wiring.plan(open_job(job, "night")) == wiring.plan(open_job(job, "night"))


def test_a_plan_that_is_not_the_runs_is_not_joined(tmp_path: Path) -> None:
    path = written(tmp_path / "prompts/a.parquet", {"q": ["x", "y"]})
    here = open_job(job_beside(tmp_path), "night")
    made = wiring.plan(here)
    other = Plan([replace(made.shards[0], rows=1)], made.schema)
    here.store.put("runs/night/plan.parquet", encode_plan(other))
    assert input_fingerprint(other) != input_fingerprint(made)
    spoil(path)
    with pytest.raises(InputInvalid):
        wiring.plan(here)


# A hundred million rows.


def test_a_hundred_million_rows_are_planned_in_seconds_and_little_memory(tmp_path: Path) -> None:
    rows, files = 100_000, 1_000
    columns = {"q": pa.array(["question"] * rows), "n": pa.array([1] * rows)}
    first = written(tmp_path / "prompts/000.parquet", pa.table(columns), row_group_size=10_000)
    for number in range(1, files):
        shutil.copyfile(first, first.with_name(f"{number:03d}.parquet"))
    planned = run(module("pipeline.cli", "plan", job_beside(tmp_path), "--json"))
    said = json.loads(planned.output)
    assert {key: said[key] for key in ("rows", "files", "shards")} == {
        "rows": rows * files,
        "files": files,
        "shards": 2 * files,
    }
    assert planned.wall_seconds < 60
    assert planned.peak_bytes < 500_000_000
