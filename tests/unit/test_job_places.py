"""Paths in a job file are meant from its folder; dates are filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.job import JobSpec
from pipeline.job_file import parse_job


def job(
    uri: str, source: str, model: str = "org/model", more: str = "", output: str = "_answers"
) -> JobSpec:
    text = (
        f"name: n\ninput: {{uri: '{uri}', prompt: q}}\noutput: {{uri: '{output}'}}\n"
        f"model: {{id: '{model}'}}\n{more}"
    )
    return parse_job(text, source=source, date="2026-11-20")


@pytest.mark.parametrize(
    ("uri", "source", "absolute"),
    [
        ("in/", "/jobs/job.yaml", "/jobs/in/"),
        ("in", "/jobs/job.yaml", "/jobs/in"),
        ("./in/*.parquet", "/jobs/job.yaml", "/jobs/in/*.parquet"),
        ("../in/", "/jobs/nightly/job.yaml", "/jobs/in/"),
        ("/data/in/", "/jobs/job.yaml", "/data/in/"),
        ("s3://lake/in/", "/jobs/job.yaml", "s3://lake/in/"),
        ("in/", "file:///jobs/job.yaml", "/jobs/in/"),
        ("in/", "s3://lake/jobs/job.yaml", "s3://lake/jobs/in/"),
        ("/data/in/", "s3://lake/jobs/job.yaml", "/data/in/"),
        ("./in/", "s3://lake/jobs/job.yaml", "s3://lake/jobs/in/"),
        ("../in/", "s3://lake/jobs/job.yaml", "s3://lake/in/"),
        ("in/date={date}/", "/jobs/job.yaml", "/jobs/in/date=2026-11-20/"),
        ("s3://lake/{date}/{date}/", "/jobs/job.yaml", "s3://lake/2026-11-20/2026-11-20/"),
    ],
)
def test_a_place_is_meant_from_the_job_files_folder(uri: str, source: str, absolute: str) -> None:
    resolved = job(uri, source)
    assert resolved.input.uri == absolute
    elsewhere = job("/prompts/", source, output=uri)
    assert elsewhere.output.uri == absolute.rstrip("/") + "/"


def test_a_relative_job_file_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert job("in/", "jobs/job.yaml").input.uri == f"{tmp_path}/jobs/in/"


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("./models/m", "/jobs/models/m"),
        ("../m", "/m"),
        ("org/model", "org/model"),
        ("/models/m", "/models/m"),
        ("s3://models/m/", "s3://models/m/"),
    ],
)
def test_a_model_lies_beside_the_job_only_when_it_says_so(model: str, place: str) -> None:
    assert job("in/", "/jobs/job.yaml", model).model.id == place


def test_the_draft_model_and_the_price_book_are_found_the_same_way() -> None:
    text = (
        "name: n\ninput: {uri: in/, prompt: q}\noutput: {uri: out/}\n"
        "model: {id: m, speculative: {method: draft_model, model: ./draft}}\n"
        "cost: {prices: prices.yaml}\n"
    )
    resolved = parse_job(text, source="/jobs/job.yaml", date="2026-11-20")
    assert resolved.model.speculative.model == "/jobs/draft"
    assert resolved.cost.prices == "/jobs/prices.yaml"


def test_the_tag_names_the_model_as_the_job_does() -> None:
    assert job("in/", "/jobs/job.yaml", "./models/m").tags["ModelID"] == "./models/m"
    mine = job("in/", "/jobs/job.yaml", more="tags: {ModelID: mine}\n")
    assert mine.tags["ModelID"] == "mine"


@pytest.mark.parametrize(
    ("uri", "output"),
    [
        ("in/", "in/"),
        ("in", "in"),
        ("in/", "in/out/"),
        ("in", "in/deep/er/out"),
        ("./", "out/"),
        ("in/", "x/../in/out"),
        ("file:///jobs/in/", "in/out/"),
        ("in/", "file:///jobs/in/out/"),
        ("s3://lake/in", "s3://lake/in/out"),
        ("s3://lake/", "s3://lake/answers/"),
        ("out/data/", "out/"),
        ("out/data/run=n-2026-11-20/", "out/"),
        ("in/**", "in/out/"),
        ("in/**/*.parquet", "in/out/"),
        ("s3://lake/**/*.parquet", "s3://lake/out/"),
        ("out/data/*/*.parquet", "out/"),
        ("*/data/run=*/part-?????.parquet", "out/"),
        ("in/{date}/", "in/2026-11-20/out"),
    ],
)
def test_an_output_is_not_where_the_input_is_read(uri: str, output: str) -> None:
    with pytest.raises(JobInvalid, match="the output lies where the input is read") as refused:
        job(uri, "/jobs/job.yaml", output=output)
    assert refused.value.where == "/jobs/job.yaml, line 3"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("uri", "output"),
    [
        ("in/", "out/"),
        ("in/", "in-out/"),
        ("in/a.parquet", "in/"),
        ("in/*.parquet", "in/out/"),
        ("in/[ab]/*.parquet", "in/out/"),
        ("in/", "in/_out/"),
        ("out/prompts/", "out/"),
        ("out/data/run=yesterday/", "out/"),
        ("s3://lake/in/", "s3://pond/in/out/"),
        ("s3://lake/in/*.parquet", "s3://lake/in/out/"),
        ("/lake/in/", "s3://lake/in/out"),
    ],
)
def test_an_output_may_lie_anywhere_else(uri: str, output: str) -> None:
    assert job(uri, "/jobs/job.yaml", output=output)
