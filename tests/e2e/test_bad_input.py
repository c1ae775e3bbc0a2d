"""What a user does wrong is answered by the command itself: what, where, why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.house import Said, job_file, published, questions, scripted, spotmill, write
from tests.s3 import S3Bucket, dummy_environment, free_port

Sections = dict[str, Any]


@pytest.fixture
def job(tmp_path: Path) -> Sections:
    write(questions(60), str(tmp_path / "prompts/a.parquet"))
    return {
        "name": "questions",
        "input": {"uri": str(tmp_path / "prompts"), "prompt": "question"},
        "output": {"uri": str(tmp_path / "answers")},
        "model": scripted(window=16, tokens=5),
        "shards": {"rows": 30},
    }


def run(
    sections: Sections,
    tmp_path: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
) -> Said:
    path = job_file(tmp_path / "job.yaml", **sections)
    return spotmill("run", str(path), "--no-prefect", *options, environment=environment)


def nothing_there(path: Path) -> None:
    (path / "a.parquet").unlink()
    path.rmdir()


def no_files(path: Path) -> None:
    (path / "a.parquet").unlink()


def no_rows(path: Path) -> None:
    write(questions(5).slice(0, 0), str(path / "a.parquet"))


def not_parquet(path: Path) -> None:
    (path / "b.parquet").write_text("ticket,body\n1,hello\n")


def truncated(path: Path) -> None:
    whole = (path / "a.parquet").read_bytes()
    (path / "b.parquet").write_bytes(whole[: len(whole) // 2])


def other_schema(path: Path) -> None:
    write(questions(5).drop_columns(["lang"]), str(path / "b.parquet"))


def wrong_type(path: Path) -> None:
    write(pa.table({"question": [1, 2, 3]}), str(path / "a.parquet"))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (nothing_there, 1, "no Parquet file is there"),
        (no_files, 1, "no Parquet file is there"),
        (no_rows, 1, "holds no rows"),
        (not_parquet, 1, "b.parquet: not a whole Parquet file"),
        (truncated, 1, "b.parquet: not a whole Parquet file"),
        (other_schema, 1, "b.parquet: column 'lang' is missing"),
        (wrong_type, 2, "column 'question' is int64, not text"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_refused_before_anything_is_written(
    job: Sections, tmp_path: Path, spoil: Callable[[Path], None], code: int, words: str
) -> None:
    spoil(tmp_path / "prompts")
    said = run(job, tmp_path)
    assert (said.code, said.stdout) == (code, "")
    assert words in said.stderr
    assert "Traceback" not in said.stderr
    assert not list((tmp_path / "answers").glob("runs/*"))


def test_a_typo_in_the_job_file_is_found_with_its_line(job: Sections, tmp_path: Path) -> None:
    path = job_file(tmp_path / "job.yaml", **job)
    text = path.read_text().replace("prompt:", "promt:")
    path.write_text(text)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "promt" in line)
    said = spotmill("run", str(path), "--no-prefect")
    assert said.code == 2
    assert f"line {line}: unknown key input.promt; did you mean prompt?" in said.stderr


def test_a_missing_column_is_named_with_the_closest_one(job: Sections, tmp_path: Path) -> None:
    job["input"]["prompt"] = "qestion"
    said = run(job, tmp_path)
    assert said.code == 2
    assert "no column 'qestion'; did you mean question?" in said.stderr


def test_rows_that_cannot_be_answered_are_error_rows(job: Sections, tmp_path: Path) -> None:
    prompts = ["fine", None, "", "   ", "long " * 1000, "fine", "fine too"]
    table = pa.table({"id": [1, 1, 2, 3, 4, 5, 5], "question": prompts})
    write(table, str(tmp_path / "prompts/a.parquet"))
    said = run(job, tmp_path, "--run-id", "night", "--json")
    assert said.code == 3, said.stderr
    assert said.document["output"]["rows_error"] == 4
    answers = published(job["output"]["uri"], "night")
    assert answers.column("id").to_pylist() == [1, 1, 2, 3, 4, 5, 5]
    assert [bool(e) for e in answers.column("error").to_pylist()] == [
        *(False, True, True, True, True, False, False)
    ]
    assert "null" in answers.column("error")[1].as_py()
    assert "empty" in answers.column("error")[2].as_py()
    assert "window" in answers.column("error")[4].as_py()


def test_an_output_that_holds_another_jobs_run_is_left_alone(job: Sections, tmp_path: Path) -> None:
    assert run(job, tmp_path, "--run-id", "night").code == 0
    before = published(job["output"]["uri"], "night")
    said = run(job | {"sampling": {"max_tokens": 2}}, tmp_path, "--run-id", "night")
    assert said.code == 2
    assert "belongs to a job with other settings" in said.stderr
    assert "--run-id" in said.stderr
    assert published(job["output"]["uri"], "night").equals(before)


def test_a_complete_run_is_not_run_again(job: Sections, tmp_path: Path) -> None:
    first = run(job, tmp_path, "--run-id", "night", "--json")
    table = tmp_path / "answers/runs/night/costs.parquet"
    costs = table.read_bytes()
    table.unlink()
    again = run(job, tmp_path, "--run-id", "night", "--json")
    assert first.code == again.code == 0
    assert first.document == again.document
    assert table.read_bytes() == costs, "what is missing of it is written again"


def test_an_input_that_changed_since_the_plan_stops_the_run(job: Sections, tmp_path: Path) -> None:
    path = job_file(tmp_path / "job.yaml", **job)
    assert spotmill("run", str(path), "--no-prefect", "--run-id", "night").code == 0
    (tmp_path / "answers/runs/night/manifest.json").unlink()
    (tmp_path / "answers/data/run=night/part-00001.parquet").unlink()
    write(questions(60), str(tmp_path / "prompts/a.parquet"))
    for command in ("run", "resume"):
        said = spotmill(command, str(path), "--no-prefect", "--run-id", "night")
        assert said.code == 1
        assert "InputChanged" in said.stderr
        assert len(list((tmp_path / "answers/runs/night/sessions").iterdir())) == 1


def test_resuming_what_was_never_begun(job: Sections, tmp_path: Path) -> None:
    said = spotmill("resume", str(job_file(tmp_path / "job.yaml", **job)), "--no-prefect")
    assert said.code == 2
    assert "there is no run" in said.stderr


def test_a_missing_job_file_and_an_unknown_option() -> None:
    assert spotmill("run", "nowhere/job.yaml").code == 2
    assert spotmill("run", "--frobnicate").code == 2


def test_a_bucket_that_does_not_exist(job: Sections, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    job["input"]["uri"] = "s3://spotmill-never-made/prompts/"
    said = run(job, tmp_path)
    assert said.code == 1
    assert "s3://spotmill-never-made" in said.stderr
    job["input"]["uri"], job["output"]["uri"] = (
        str(tmp_path / "prompts"),
        "s3://spotmill-never-made/",
    )
    said = run(job, tmp_path)
    assert said.code == 1
    assert "bucket" in said.stderr


def test_missing_credentials(job: Sections, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    job["output"]["uri"] = f"{s3_bucket.uri}/answers/"
    nobody = dummy_environment(tmp_path) | {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    said = run(job, tmp_path, environment=nobody)
    assert said.code == 1
    assert "no credentials" in said.stderr
    assert "AWS_ACCESS_KEY_ID" in said.stderr


def test_an_endpoint_that_does_not_answer(job: Sections, tmp_path: Path) -> None:
    job["output"]["uri"] = "s3://bucket/answers/"
    job["storage_options"] = {"endpoint_url": f"http://127.0.0.1:{free_port()}"}
    patience = {"SPOTMILL_STORE_SECONDS": "3"}
    said = run(job, tmp_path, environment=dummy_environment(tmp_path) | patience)
    assert said.code == 1
    assert "did not answer" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_table_of_any_writer_is_carried_through(job: Sections, tmp_path: Path) -> None:
    assert run(job, tmp_path, "--run-id", "night").code == 0
    answers = published(job["output"]["uri"], "night")
    source = pq.read_table(tmp_path / "prompts")
    assert answers.select(source.column_names).equals(source)
