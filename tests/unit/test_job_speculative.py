"""Speculative decoding in a job file: a method's name alone, or a mapping."""

from __future__ import annotations

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.job import JobSpec
from pipeline.job_file import parse_job
from pipeline.job_speculative import SpeculativeSpec

JOB = """\
name: n
input: {uri: in/, prompt: q}
output: {uri: out/}
model:
  id: m
  speculative: %s
"""


def speculative(text: str) -> SpeculativeSpec:
    return parse_job(JOB % text, source="/j/job.yaml", date="2026-11-20").model.speculative


@pytest.mark.parametrize("method", ["none", "ngram", "suffix"])
def test_a_method_may_stand_alone(method: str) -> None:
    assert speculative(method) == speculative(f"{{method: {method}}}")
    assert speculative(method).method == method


@pytest.mark.parametrize("method", ["draft_model", "eagle", "eagle3"])
def test_some_methods_need_a_model(method: str) -> None:
    assert speculative(f"{{method: {method}, model: d}}").model == "d"
    with pytest.raises(JobInvalid, match=f"{method} needs a `model`"):
        speculative(method)


@pytest.mark.parametrize("method", ["none", "ngram", "suffix"])
def test_others_take_none(method: str) -> None:
    with pytest.raises(JobInvalid, match=f"{method} takes no `model`"):
        speculative(f"{{method: {method}, model: d}}")


@pytest.mark.parametrize("text", ["medusa", "{method: medusa}", "[ngram]", "3", "{model: d}"])
def test_anything_else_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(JobInvalid) as refused:
        speculative(text)
    assert refused.value.where == "/j/job.yaml, line 6"
    assert "model.speculative" in refused.value.what


@pytest.mark.parametrize("tokens", [0, 33])
def test_the_number_of_draft_tokens_is_bounded(tokens: int) -> None:
    with pytest.raises(JobInvalid, match="num_speculative_tokens"):
        speculative(f"{{method: ngram, num_speculative_tokens: {tokens}}}")


def test_auto_stands_alone_or_names_its_candidates() -> None:
    assert speculative("auto").candidates == ()
    named = speculative(
        "{method: auto, candidates: [suffix, {method: draft_model, model: ./d}, "
        "{method: ngram, num_speculative_tokens: 5}]}"
    )
    assert [one.method for one in named.candidates] == ["suffix", "draft_model", "ngram"]
    assert [one.num_speculative_tokens for one in named.candidates] == [None, None, 5]
    assert named.candidates[1].model == "/j/d"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{method: ngram, candidates: [suffix]}", "takes no `candidates`"),
        ("{method: auto, num_speculative_tokens: 5}", "auto takes no num_speculative_tokens"),
        ("{method: auto, candidates: [none]}", "none is no candidate"),
        ("{method: auto, candidates: [auto]}", "auto is no candidate"),
        ("{method: auto, candidates: [draft_model]}", "needs a `model`"),
        ("{method: auto, candidates: [{method: ngram, depth: 3}]}", "unknown key"),
        ("{method: suffix, num_speculative_tokens_per_batch_size: [[1, 8, 2]]}", "no limits"),
        ("{method: ngram, num_speculative_tokens_per_batch_size: [[2, 8, 2]]}", "1 has to begin"),
        (
            "{method: ngram, num_speculative_tokens_per_batch_size: [[1, 8, 2], [8, 9, 0]]}",
            "9 has to begin",
        ),
    ],
)
def test_what_auto_and_limits_cannot_mean_is_refused(text: str, why: str) -> None:
    with pytest.raises(JobInvalid, match=why):
        speculative(text)


def test_the_runs_own_copy_of_auto_is_the_same_job() -> None:
    text = JOB % "{method: auto, candidates: [suffix, {method: draft_model, model: ./d}]}"
    job = parse_job(text, source="/j/job.yaml", date="2026-11-20")
    again = JobSpec.model_validate(job.model_dump(mode="json"))
    assert again == job
    elsewhere = parse_job(text, source="/elsewhere/job.yaml", date="2026-11-21")
    assert elsewhere.settings_fingerprint() == again.settings_fingerprint()
    fewer = parse_job(JOB % "auto", source="/j/job.yaml", date="2026-11-20")
    assert fewer.settings_fingerprint() != job.settings_fingerprint()
