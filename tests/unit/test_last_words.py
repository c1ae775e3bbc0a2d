"""Of all that vLLM says when it fails, the sentence that tells why, and what to do about it.

The messages are vLLM 0.32's, torch's and safetensors' own, cut short.
"""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from pipeline.engines.last_words import hint_for, root_cause, words_of

WORKER = "(Worker pid=20872) ERROR 11-20 15:39:05 [multiproc_executor.py:953] "
CORE = "(EngineCore pid=20755) ERROR 11-20 15:39:08 [core.py:1510] "
ELSEWHERE = (
    "Exception: WorkerProc initialization failed due to an exception in a background process. "
    "See stack trace for root cause."
)


def test_the_root_cause_is_what_a_worker_said_not_what_was_said_of_it() -> None:
    said = "\n".join(
        [
            "Triton is installed, but doesn't include CPU backend. Disabling Triton.",
            WORKER + "WorkerProc failed to start.",
            WORKER + "Traceback (most recent call last):",
            WORKER + '  File "default_loader.py", line 259, in _prepare_weights',
            WORKER + "    raise RuntimeError(",
            WORKER + "RuntimeError: Cannot find any model weights with `/models/m`",
            CORE + "EngineCore failed to start.",
            CORE + ELSEWHERE,
            "Process EngineCore:",
            ELSEWHERE,
        ]
    )
    assert root_cause(said) == "RuntimeError: Cannot find any model weights with `/models/m`"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
        ),
        ("Fatal Python error: Segmentation fault\n\nThread 1:", "Fatal Python error: Segmen"),
        (
            f"!!!!!!! Segfault encountered !!!!!!!\n{CORE}RuntimeError: cancelled",
            "!!!!!!! Segfault encountered !!!!!!!",
        ),
        (CORE + "AssertionError", "AssertionError"),
        (
            "(VllmWorker-0 pid=19515) ERROR 11-20 17:06:28 [multiproc_executor.py:953] "
            "ValueError: Available memory on node 0 (20.45/23.54 GiB) on startup is less than ...",
            "ValueError: Available memory on node 0",
        ),
        ("AssertionError\nmore: text", "AssertionError"),
        ("nothing to see", None),
        ("", None),
        (ELSEWHERE, None),
    ],
)
def test_the_root_cause_in_other_words(said: str, cause: str | None) -> None:
    found = root_cause(said)
    assert found == cause if cause is None else found is not None and found.startswith(cause)


def test_an_errors_first_line_says_most() -> None:
    problem = RuntimeError("CUDA error: an illegal memory access\nCUDA kernel errors might be ...")
    assert words_of(problem) == "RuntimeError: CUDA error: an illegal memory access"
    assert words_of(RuntimeError()) == "RuntimeError"
    assert len(words_of(RuntimeError("x" * 5000))) < 700


class Config(BaseModel):
    dtype: str
    seed: int = 0

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str) -> str:
        raise ValueError(f"Model architectures ['{value}'] are not supported for now.")


def test_of_a_failed_validation_the_reason_is_told() -> None:
    with pytest.raises(ValidationError) as caught:
        Config(dtype="No")
    assert words_of(caught.value) == (
        "ValidationError: 1 validation error for Config: "
        "Model architectures ['No'] are not supported for now."
    )
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"dtype": 3})
    assert "dtype Input should be a valid string" in words_of(caught.value)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", "max_model_len"),
        ("No available memory for the cache blocks. Try increasing `gpu_memory_", "cache more"),
        ("the available KV cache memory (1.2 GiB) is too small", "give the cache more memory"),
        ("less than requested memory for kv (16384.0 GiB). Decrease --kv-c", "lower model.engine."),
        ("Free memory on device (1/80 GiB) on startup is less than desired", "something else"),
        ("Cannot find any model weights with `/m`", "safetensors"),
        ("Error while deserializing header: incomplete metadata, file not", "cut short"),
        ("ValidationError: Model architectures ['No'] are not supported for now", "does not know"),
        ("Cannot find the config file for awq", "model.quantization"),
        ("torch.float32 is not supported for quantization method fp8", "model.quantization"),
        ("Failed to find a kernel that can implement the WNA16 linear layer", "kernels"),
        ("User-specified max_model_len (1048576) is greater than the derived", "not trained"),
        ("EngineArgs.__init__() got an unexpected keyword argument 'x'", "EngineArgs"),
        ("2 validation errors for ModelConfig: dtype.literal", "a value is not one"),
        ("it is Tuesday", "spotmill validate"),
    ],
)
def test_what_to_do_about_it(words: str, hint: str) -> None:
    assert hint in hint_for(words)
