"""What the job would have cost done otherwise: told by runs that did it so, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pipeline.predicting.history import earlier_runs
from pipeline.predicting.otherwise import gain_of, unquantized_name
from pipeline.predicting.outlook import outlook
from pipeline.predicting.planning import weights_quantization
from pipeline.predicting.view import Evidence
from tests.unit.plan_bench import ROWS, Bench


def test_what_is_not_known_of_other_ways_is_not_invented(bench: Bench) -> None:
    bench.ran("one")
    told = bench.plan()["would_have_cost"]
    assert Decimal(told["on_demand"]["usd"]) > 0
    assert told["unspeculated"]["why"] == "the job does not speculate"
    assert told["unquantized"]["usd"] is None
    assert "no earlier run" in told["unquantized"]["why"]


def test_the_gain_is_that_of_the_trial_that_was_used() -> None:
    trials = [
        {"settings": {"method": "ngram", "num_speculative_tokens": 2}, "gain": 1.2},
        {"settings": {"method": "ngram", "num_speculative_tokens": 4}, "gain": 1.5},
    ]
    used = {"method": "ngram", "num_speculative_tokens": 4, "profile": {"trials": trials}}
    assert gain_of({"speculative": used}) == 1.5
    assert gain_of({"speculative": {**used, "profile": None}}) is None
    assert gain_of({"speculative": {**used, "num_speculative_tokens": 3}}) is None


def test_a_tuned_gain_tells_what_the_job_costs_without_speculation(bench: Bench) -> None:
    speculating = {"id": "scripted://?window=8&tokens=30&step_seconds=0.001", "speculative": "auto"}
    bench.ran("one", model=speculating)
    here = bench.here(model=speculating)
    [run] = earlier_runs(here)
    settings = {"method": "ngram", "num_speculative_tokens": 4}
    trials = [{"settings": settings, "gain": 2.0}]
    used = {**settings, "profile": {"trials": trials}}
    drafted = replace(run, manifest={**run.manifest, "model": {"speculative": used}})
    evidence = Evidence(ROWS, 3, 1, [drafted], "nobody counted")
    told = outlook(here, evidence)
    spent = Decimal(told["usd"]["p50"])
    without = told["would_have_cost"]["unspeculated"]
    assert "2.00 times" in without["why"]
    # Decoding takes twice as long, and starting the worker as long as ever.
    assert spent < Decimal(without["usd"]) < 2 * spent


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("s3://models/llama-3.1-8b-w8a8/", "llama-3.1-8b"),
        ("RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b-instruct"),
        ("RedHatAI/Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b-instruct"),
        ("/models/target-AWQ-INT4", "target"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("awq", "awq"),
    ],
)
def test_a_quantized_model_is_named_after_the_one_it_was_made_of(model: str, name: str) -> None:
    assert unquantized_name(model) == name


def test_another_models_runs_are_not_this_one_unquantized(bench: Bench) -> None:
    def model(name: str, quantization: str) -> dict[str, Any]:
        (bench.place / name).mkdir(exist_ok=True)
        engine = f"scripted://?window=8&step_seconds=0.001&counter={bench.place / name}"
        return {"id": engine, "quantization": quantization}

    quantized = model("small-w8a8", "fp8")
    bench.ran("another", model=model("larger", "none"))
    bench.ran("one", model=quantized)
    unknown = bench.plan(model=quantized)["would_have_cost"]["unquantized"]
    assert unknown["usd"] is None
    assert "of small with" in unknown["why"]
    bench.ran("same", model=model("small", "none"))
    known = bench.plan(model=quantized)["would_have_cost"]["unquantized"]
    assert Decimal(known["usd"]) > 0
    assert known["why"] == "1 earlier runs of small with quantization: none"


def test_what_auto_comes_to_is_read_from_the_model(bench: Bench) -> None:
    model = bench.place / "model"
    model.mkdir()
    for config, method in (({}, "none"), ({"quantization_config": {"quant_method": "awq"}}, "awq")):
        (model / "config.json").write_text(json.dumps(config))
        assert weights_quantization(bench.here(model={"id": str(model)})) == method
    assert weights_quantization(bench.here(model={"id": "/nowhere/model"})) is None
    bench.ran("one")
    here, runs = bench.here(), earlier_runs(bench.here())
    evidence = Evidence(ROWS, 4, 1, runs, "nobody counted", quantization="none")
    told = outlook(here, evidence)["would_have_cost"]["unquantized"]
    assert told["why"] == "the model is not quantized"
