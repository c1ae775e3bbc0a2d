"""What an engine would do wrongly is refused before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import EngineRefused
from pipeline.engines.limits import Device, local_model_config, refuse_unsound
from pipeline.job import JobSpec


def job(sampling: dict[str, Any] | None = None, **model: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "n",
            "input": {"uri": "in/", "prompt": "q"},
            "output": {"uri": "out/"},
            "model": {"id": "m"} | model,
            "sampling": sampling or {},
        }
    )


devices = pytest.mark.parametrize("device", ["cpu", "cuda"])


@devices
def test_a_plain_job_is_sound(device: Device) -> None:
    refuse_unsound(job(), device, None)
    refuse_unsound(job(), device, {})


@devices
def test_code_that_comes_with_a_model_is_refused(device: Device) -> None:
    with pytest.raises(EngineRefused, match="trust_remote_code"):
        refuse_unsound(job(engine={"trust_remote_code": True}), device, None)
    refuse_unsound(job(engine={"trust_remote_code": False}), device, None)


@devices
@pytest.mark.parametrize("kind", ["pt", "npcache"])
def test_pickles_are_refused(device: Device, kind: str) -> None:
    with pytest.raises(EngineRefused, match="unpickles"):
        refuse_unsound(job(engine={"load_format": kind}), device, None)
    refuse_unsound(job(engine={"load_format": "safetensors"}), device, None)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.1}, {"columns": {"temperature": "t"}}, {"temperature": 2.0}]
)
def test_sampled_speculation_is_refused_on_the_cpu_alone(sampling: dict[str, Any]) -> None:
    speculating = job(sampling, speculative="ngram")
    with pytest.raises(EngineRefused, match="speculative decoding"):
        refuse_unsound(speculating, "cpu", None)
    refuse_unsound(speculating, "cuda", None)
    refuse_unsound(job(sampling), "cpu", None)
    refuse_unsound(job({"temperature": 0.0}, speculative="ngram"), "cpu", None)


@pytest.mark.parametrize("quantization", ["bitsandbytes", "gguf"])
def test_what_only_a_gpu_runs_is_refused_on_the_cpu(quantization: str) -> None:
    with pytest.raises(EngineRefused, match="CPU build"):
        refuse_unsound(job(quantization=quantization), "cpu", None)
    refuse_unsound(job(quantization=quantization), "cuda", None)


@devices
@pytest.mark.parametrize(
    ("asked", "config", "fits"),
    [
        ("auto", {"quantization_config": {"quant_method": "awq"}}, True),
        ("awq", {"quantization_config": {"quant_method": "awq"}}, True),
        ("gptq", {"quantization_config": {"quant_method": "awq"}}, False),
        ("none", {"quantization_config": {"quant_method": "awq"}}, False),
        ("none", {}, True),
        ("none", {"quantization_config": None}, True),
        ("compressed-tensors", {}, False),
        ("fp8", {}, True),
        ("fp8", {"quantization_config": {"quant_method": "fp8"}}, True),
        ("compressed-tensors", None, True),
    ],
)
def test_a_models_own_quantization_decides(
    device: Device, asked: str, config: dict[str, Any] | None, fits: bool
) -> None:
    asking = job(quantization=asked)
    if fits:
        refuse_unsound(asking, device, config)
        return
    with pytest.raises(EngineRefused, match="the model is quantized as") as refused:
        refuse_unsound(asking, device, config)
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_a_models_config_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert local_model_config(str(tmp_path)) == {"model_type": "llama"}
    assert local_model_config("org/model") is None
    assert local_model_config("s3://models/m/") is None


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match=r"no config\.json"):
        local_model_config(str(tmp_path))
    with pytest.raises(EngineRefused, match="no such directory"):
        local_model_config(str(tmp_path / "gone"))


def test_a_broken_config_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(EngineRefused):
        local_model_config(str(tmp_path))
