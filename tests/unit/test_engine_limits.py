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
@pytest.mark.parametrize("kind", ["pt", "npcache", "auto", "hf", "mistral", "tensorizer", "PT", 1])
def test_pickles_are_refused(device: Device, kind: object) -> None:
    with pytest.raises(EngineRefused, match="unpickle"):
        refuse_unsound(job(engine={"load_format": kind}), device, None)


@pytest.mark.parametrize("kind", ["safetensors", "runai_streamer", "Safetensors", "dummy"])
def test_what_reads_no_pickles_is_not_refused(kind: str) -> None:
    refuse_unsound(job(engine={"load_format": kind}), "cuda", None)


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ({"worker_cls": "mine.Worker"}, "worker_cls"),
        ({"worker_extension_cls": "mine.Worker"}, "worker_extension_cls"),
        ({"scheduler_cls": "mine.Scheduler"}, "scheduler_cls"),
        ({"logits_processors": ["mine:Processor"]}, "logits_processors"),
        ({"io_processor_plugin": "mine"}, "io_processor_plugin"),
        ({"reasoning_parser_plugin": "/etc/mine.py"}, "reasoning_parser_plugin"),
        (
            {"structured_outputs_config": {"reasoning_parser_plugin": "/etc/mine.py"}},
            "structured_outputs_config.reasoning_parser_plugin",
        ),
        ({"model_class_overrides": {"Llama": "mine:Llama"}}, "model_class_overrides"),
        ({"distributed_executor_backend": "mine.Executor"}, "distributed_executor_backend"),
        ({"distributed_executor_backend": ["mine"]}, "distributed_executor_backend"),
        ({"compilation_config": {"backend": "mine.compile"}}, "compilation_config"),
        (
            {"compilation_config": {"inductor_passes": {"a": "os.system"}}},
            "compilation_config.inductor_passes",
        ),
        (
            {"ec_manager_config": {"encoder_cache_manager_cls": "mine.Cache"}},
            "ec_manager_config.encoder_cache_manager_cls",
        ),
        ({"kv_transfer_config": {"kv_connector_module_path": "mine"}}, "kv_transfer_config"),
        ({"logging_config": {"pylogging_config_file": "/etc/a.json"}}, "logging_config.pylog"),
        ({"additional_config": [{"any": [{"module_path": "mine"}]}]}, "additional_config"),
    ],
)
def test_code_that_a_job_names_is_refused(engine: dict[str, Any], place: str) -> None:
    with pytest.raises(EngineRefused, match="runs code") as refused:
        refuse_unsound(job(engine=engine), "cuda", None)
    assert refused.value.where.startswith(f"model.engine.{place}")
    assert refused.value.exit_code == 2


def test_settings_that_load_no_code_are_handed_on() -> None:
    engine = {
        "enforce_eager": True,
        "tokenizer": "org/tokenizer",
        "seed": 7,
        "distributed_executor_backend": "mp",
        "compilation_config": {"backend": "inductor", "cudagraph_mode": "NONE"},
        "hf_overrides": {"rope_theta": 10_000},
        "max_num_seqs": 8,
    }
    refuse_unsound(job(engine=engine), "cuda", {})


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("model", "model.id"),
        ("revision", "model.revision"),
        ("quantization", "model.quantization"),
        ("speculative_config", "model.speculative"),
        ("spec_method", "model.speculative"),
        ("spec_model", "model.speculative"),
        ("spec_tokens", "model.speculative"),
        ("max_model_len", "model.max_model_len"),
        ("disable_log_stats", "leave it out"),
    ],
)
def test_what_the_job_has_a_name_for_is_not_said_twice(key: str, instead: str) -> None:
    with pytest.raises(EngineRefused, match=f"{key} is not for model.engine") as refused:
        refuse_unsound(job(engine={key: None}), "cuda", None)
    assert instead in refused.value.hint
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("method", ["bitsandbytes", "gguf"])
def test_what_only_a_gpu_runs_is_refused_where_the_model_says_so(method: str) -> None:
    config = {"quantization_config": {"quant_method": method}}
    with pytest.raises(EngineRefused, match="CPU build") as refused:
        refuse_unsound(job(), "cpu", config)
    assert refused.value.where == "config.json of m"
    refuse_unsound(job(), "cuda", config)


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
