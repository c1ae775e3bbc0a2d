"""Speculative decoding in a job file: a method's name alone, or a mapping."""

from __future__ import annotations

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.job import SpeculativeSpec
from pipeline.job_file import parse_job

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


def test_auto_is_refused_rather_than_ignored() -> None:
    with pytest.raises(JobInvalid, match="not built yet"):
        speculative("auto")
