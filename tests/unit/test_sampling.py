"""Which rows go on from their saved tokens, what becomes of them, and what a job may ask for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.core.rows import (
    FinishedRow,
    PositionLogprobs,
    Request,
    Sampling,
    Structured,
    TokenLogprob,
)
from pipeline.engines.continuation import positions, sampling_arguments
from pipeline.job import JobSpec, SamplingSpec
from pipeline.preparing import prepare
from tests.simulation.memory_rows import MemoryShard, Row
from tests.unit.datasets import job_over, opened, written

CONTINUED = [
    Sampling(),
    Sampling(temperature=0.8, top_p=0.9, top_k=4, min_p=0.1),
    Sampling(stop=("END",)),
    Sampling(stop=("END",), min_tokens=9),
    Sampling(repetition_penalty=1.2),
    Sampling(seed=3),
]
RESTARTED = [
    Sampling(seed=3, temperature=0.1),
    Sampling(presence_penalty=0.1),
    Sampling(frequency_penalty=-0.1),
    Sampling(logprobs=0),
    Sampling(structured=Structured(regex="a+")),
]


@pytest.mark.parametrize("sampling", CONTINUED + RESTARTED)
def test_a_row_keeps_its_saved_tokens_only_where_that_is_sound(sampling: Sampling) -> None:
    assert sampling.continues_exactly == (sampling in CONTINUED)
    shard = MemoryShard([Row("prompt", sampling)])
    prepared = prepare(0, "id", shard, (5, 6), 77, lambda _: (1, 2))
    assert isinstance(prepared, Request)
    assert prepared.saved == ((5, 6) if sampling in CONTINUED else ())


def test_a_row_that_must_restart_is_given_a_seed_that_gives_the_same_answer_again() -> None:
    shard = MemoryShard([Row("a", Sampling(temperature=0.7, presence_penalty=1.0))])
    prepared = prepare(0, "id", shard, (), 77, lambda _: (1, 2))
    assert isinstance(prepared, Request)
    assert prepared.sampling.seed == 77
    unseeded = MemoryShard([Row("a", Sampling(temperature=0.7))])
    prepared = prepare(0, "id", unseeded, (), 77, lambda _: (1, 2))
    assert isinstance(prepared, Request)
    assert prepared.sampling.seed is None, "it goes on from its tokens, and needs none"


def test_what_counts_generated_tokens_counts_the_fewer() -> None:
    sampling = Sampling(max_tokens=10, min_tokens=4, stop=("A",), seed=1)
    whole, late, later = (sampling_arguments(sampling, saved) for saved in (0, 3, 6))
    assert (whole["max_tokens"], whole["min_tokens"]) == (10, 4)
    assert (late["max_tokens"], late["min_tokens"]) == (7, 1)
    assert (later["max_tokens"], later["min_tokens"]) == (4, 0)
    assert later | {"max_tokens": 10, "min_tokens": 4} == whole
    assert whole["structured"] is None


def test_a_structure_is_handed_on_as_its_one_kind() -> None:
    structured = Structured(choice=("yes", "no"))
    sampling = Sampling(structured=structured)
    assert sampling_arguments(sampling, 0)["structured"] == {"choice": ("yes", "no")}


def test_the_top_is_as_long_as_asked_whatever_was_drawn() -> None:
    def found(rank: int, logprob: float) -> SimpleNamespace:
        return SimpleNamespace(rank=rank, logprob=logprob, decoded_token=f"t{rank}")

    unlikely = {9: found(77, -8.0), 1: found(1, -0.1), 2: found(2, -3.0)}
    [told] = positions([unlikely], 2) or ()
    top = (TokenLogprob("t1", 1, -0.1), TokenLogprob("t2", 2, -3.0))
    assert told == PositionLogprobs("t77", 9, -8.0, top)
    assert positions([unlikely], None) is None


def test_a_finished_row_comes_back_from_json() -> None:
    told = (PositionLogprobs("a", 1, -0.5, (TokenLogprob("a", 1, -0.5),)),)
    for row in (FinishedRow(3, error="bad"), FinishedRow(4, "a", "stop", logprobs=told)):
        assert FinishedRow.from_json(asdict(row)) == row


def test_a_schemas_order_is_kept_by_a_stored_job() -> None:
    """It decides the order in which the answer's members are said."""
    schema = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {}}}
    spec = SamplingSpec.model_validate({"structured": {"json": schema}})
    structured = spec.core().structured
    assert structured is not None
    assert structured.json is not None
    assert structured.json.index("zeta") < structured.json.index("alpha")
    stored = SamplingSpec.model_validate(spec.model_dump(mode="json"))
    assert stored == spec
    assert hash(stored.core()) == hash(spec.core())


@pytest.mark.parametrize(
    "structured", [{"json": '{"type": "object"}'}, {"regex": "a+"}, {"choice": ["a", "b"]}]
)
def test_each_kind_of_structure_survives_storing(structured: dict[str, Any]) -> None:
    spec = SamplingSpec.model_validate({"structured": structured})
    assert SamplingSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"structured": {}}, "exactly one of json, regex, choice; got none"),
        ({"structured": {"regex": "a", "choice": ["b"]}}, "got regex and choice"),
        ({"structured": {"json": "{"}}, "the schema is not JSON"),
        ({"structured": {"json": "[]"}}, "the schema is no JSON object"),
        ({"structured": {"json": {"enum": [{1}]}}}, "the schema is not JSON"),
        ({"structured": {"choice": []}}, "at least 1 item"),
        ({"structured": {"grammar": "x"}}, "Extra inputs"),
        ({"logprobs": 21}, "less than or equal to 20"),
        ({"logprobs": -1}, "greater than or equal to 0"),
        ({"columns": {"structured": "s"}}, "no column can override it"),
    ],
)
def test_nonsense_is_refused(sampling: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SamplingSpec.model_validate(sampling)


def test_the_schema_shows_what_may_be_asked_for() -> None:
    definitions = JobSpec.model_json_schema()["$defs"]
    assert definitions["SamplingSpec"]["properties"].keys() >= {"logprobs", "structured"}
    assert definitions["StructuredSpec"]["properties"].keys() == {"json", "regex", "choice"}


def test_a_row_may_ask_for_logprobs_and_keeps_the_jobs_structure(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"q": ["x", "y"], "n": [3, None]})
    sampling = {"structured": {"choice": ["a", "b"]}, "columns": {"logprobs": "n"}}
    [shard] = opened(job_over(path, sampling=sampling, columns=["q"]))
    structured = Structured(choice=("a", "b"))
    assert shard.sampling(0) == Sampling(logprobs=3, structured=structured)
    assert shard.sampling(1) == Sampling(structured=structured)
