"""An engine that cannot start says why in vLLM's own words, and what to do about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import EngineFailed
from pipeline.engines.vllm import load_vllm
from pipeline.job import ModelSpec
from tests.contracts.real_engine import TARGET, float32

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

HERE, ELSEWHERE = False, True


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy, to be harmed."""
    return Path(shutil.copytree(TARGET, tmp_path / "model"))


def refusal(model: ModelSpec, own_process: bool = HERE) -> EngineFailed:
    with pytest.raises(EngineFailed) as caught:
        load_vllm(model, "cpu", own_process=own_process).close()
    assert caught.value.where == model.id
    return caught.value


@pytest.mark.parametrize("own_process", [HERE, pytest.param(ELSEWHERE, marks=pytest.mark.nightly)])
def test_weights_that_are_missing(model: Path, own_process: bool) -> None:
    (model / "model.safetensors").unlink()
    problem = refusal(float32(model), own_process)
    assert f"Cannot find any model weights with `{model}`" in problem.why
    assert ".safetensors" in problem.hint


@pytest.mark.nightly
@pytest.mark.parametrize("own_process", [HERE, ELSEWHERE])
def test_a_cache_too_small_for_one_row(own_process: bool) -> None:
    problem = refusal(float32(kv_cache_memory_bytes=4096), own_process)
    assert "No available memory for the cache blocks" in problem.why
    assert "give the cache more memory" in problem.hint


def test_more_memory_than_there_is() -> None:
    problem = refusal(float32(kv_cache_memory_bytes=1 << 44))
    assert "16384.0 GiB" in problem.why
    assert "lower model.engine.kv_cache_memory_bytes" in problem.hint


@pytest.mark.nightly
@pytest.mark.parametrize("own_process", [HERE, ELSEWHERE])
def test_an_argument_nobody_knows(own_process: bool) -> None:
    problem = refusal(float32(no_such_argument=1), own_process)
    assert "unexpected keyword argument 'no_such_argument'" in problem.why
    assert "EngineArgs" in problem.hint


def test_an_argument_with_a_value_nobody_knows() -> None:
    problem = refusal(float32(dtype="float7"))
    assert "dtype" in problem.why
    assert "float7" not in problem.hint
    assert "correct model.engine" in problem.hint


def test_an_architecture_nobody_knows(model: Path) -> None:
    edit(model, architectures=["NoSuchForCausalLM"])
    problem = refusal(float32(model))
    assert "NoSuchForCausalLM" in problem.why
    assert "architecture" in problem.hint


def test_a_quantization_the_model_does_not_have() -> None:
    problem = refusal(ModelSpec(id=str(TARGET), quantization="awq"))
    assert "awq" in problem.why
    assert "model.quantization" in problem.hint


def test_weights_that_are_cut_short(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    problem = refusal(float32(model))
    assert "cut short" in problem.hint, problem.why


def edit(model: Path, **changes: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
