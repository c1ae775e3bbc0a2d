"""A run is joined by the same job alone: by what decides rows and answers, not by the rest."""

from __future__ import annotations

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.job import JobSpec, fingerprint, without_folder
from pipeline.job_file import parse_job

JOB = """\
name: nightly
input:
  uri: in/
  template: "Say {{ a }}"
output: {uri: out/}
model: {id: ./models/m, speculative: {method: draft_model, model: ./models/draft}}
sampling: {temperature: 0.5, max_tokens: 9}
shards: {rows: 100}
"""


def settings(text: str = JOB, source: str = "/jobs/job.yaml", date: str = "2026-11-20") -> str:
    return parse_job(text, source=source, date=date).settings_fingerprint()


@pytest.mark.parametrize(
    "more",
    [
        "fleet: {workers: 9, pool: p, lease_seconds: 5}\n",
        "cost: {budget_usd: 12, prices: prices.yaml}\n",
        "tags: {Team: other}\n",
        "chunks: {rows: 3, seconds: 1}\n",
        "storage_options: {endpoint_url: 'http://x', region: r}\n",
    ],
)
def test_what_only_moves_money_or_machines_changes_nothing(more: str) -> None:
    assert settings(JOB + more) == settings()


def test_defaults_spelled_out_change_nothing() -> None:
    assert settings(JOB.replace("max_tokens: 9", "max_tokens: 9, top_p: 1.0")) == settings()


def test_another_checkout_changes_nothing() -> None:
    assert settings(source="/home/someone/else/job.yaml") == settings()


def test_the_datasets_place_and_date_change_nothing() -> None:
    assert settings(JOB.replace("uri: in/", "uri: s3://lake/{date}/")) == settings()
    assert settings(date="2026-11-21") == settings()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("temperature: 0.5", "temperature: 0.6"),
        ("max_tokens: 9", "max_tokens: 10"),
        ("max_tokens: 9", "max_tokens: 9, seed: 1"),
        ("max_tokens: 9", "max_tokens: 9, columns: {seed: s}"),
        ("./models/m,", "./models/n,"),
        ("./models/m,", "./models/m, revision: abc,"),
        ("./models/m,", "./models/m, quantization: awq,"),
        ("./models/m,", "./models/m, max_model_len: 512,"),
        ("./models/draft", "./models/other"),
        ("Say {{ a }}", "Say  {{ a }}"),
        ("uri: in/", 'uri: in/\n  where: "a = 1"'),
        ("uri: in/", "uri: in/\n  columns: [a]"),
        ("rows: 100", "rows: 101"),
    ],
)
def test_what_decides_rows_or_answers_changes_it(old: str, new: str) -> None:
    assert old in JOB
    assert settings(JOB.replace(old, new)) != settings()


def test_a_job_survives_the_runs_own_copy() -> None:
    job = parse_job(JOB, source="/jobs/job.yaml", date="2026-11-20")
    again = JobSpec.model_validate(job.model_dump(mode="json"))
    assert again == job
    assert again.settings_fingerprint() == job.settings_fingerprint()


def test_the_order_of_keys_means_nothing() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})


def test_what_came_later_and_is_not_used_leaves_fingerprints_as_they_were() -> None:
    """A run that an earlier version planned is gone on with."""
    job = parse_job(JOB, source="/jobs/job.yaml", date="2026-11-20")
    assert job.model.speculative.with_models(without_folder).decisive() == {
        "method": "draft_model",
        "model": "draft",
        "num_speculative_tokens": 3,
        "prompt_lookup_max": None,
        "prompt_lookup_min": None,
    }


def test_two_complaints_do_not_make_a_job() -> None:
    with pytest.raises(JobInvalid):
        settings(JOB.replace("rows: 100", "rows: 0"))
