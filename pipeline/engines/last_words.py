"""What an engine said before it failed, and what can be done about it."""

from __future__ import annotations

import re

_LONGEST = 600
# `(EngineCore pid=12) ERROR 11-20 15:39:28 [core.py:1510] `, `(VllmWorker-0 pid=13) ...` and so on.
_BEFORE = re.compile(
    r"^(?:\([\w-]+ pid=\d+\) )?(?:(?:ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?"
)
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit)(?:: .*|)$")
_CRASHED = re.compile(
    r"^(?:Fatal Python error: .*|terminate called .*|.*Segmentation fault.*|!+ Segfault .*)$"
)
# What vLLM's processes say of each other, and of nothing in particular.
_ELSEWHERE = re.compile(
    r"See (?:root cause|stack trace)|EngineDeadError|RuntimeError: cancelled$", re.IGNORECASE
)
_VALUE_ERROR = re.compile(r"^\s*(?:Value|Assertion) error, (.*)$", re.MULTILINE)
_PYDANTIC_TAIL = re.compile(r" \[type=\w+, input_value=.*$")

# By vLLM 0.32's own messages; the first that fits counts.
_HINTS = (
    (
        r"max_model_len \(\d+\) is greater",
        "lower model.max_model_len: the model was not trained for more",
    ),
    (
        r"Free memory on device",
        "something else holds the device's memory: end it, or lower "
        "model.engine.gpu_memory_utilization",
    ),
    (
        r"requested memory for kv|kv.?cache.*requested memory",
        "lower model.engine.kv_cache_memory_bytes (or VLLM_CPU_KVCACHE_SPACE)",
    ),
    (
        r"memory for the cache blocks|KV cache",
        "give the cache more memory (model.engine.gpu_memory_utilization or "
        "kv_cache_memory_bytes), or lower model.max_model_len",
    ),
    (
        r"out of memory|can't allocate memory|bad_alloc|MemoryError",
        "use a quantized or smaller model or a larger device (model.engine.tensor_parallel_size "
        "takes several), or lower model.max_model_len and model.engine.max_num_seqs",
    ),
    (
        r"Cannot find any model weights|safetensors.*(?:No such file|not found)|"
        r"following weights were not initialized",
        "the model's folder must hold all of its weights as .safetensors; pickles are not read",
    ),
    (
        r"header too|HeaderTooLarge|HeaderTooSmall|MetadataIncompleteBuffer|InvalidHeader|"
        r"incomplete metadata",
        "a .safetensors file is cut short or broken: copy the model again",
    ),
    (
        r"architectures? .*not supported|does not recognize this architecture|Unrecognized",
        "this vLLM does not know the model's architecture: use a model it knows, or a newer vLLM",
    ),
    (
        r"quantiz|kernel|compute capability|config file for (?:awq|gptq|fp8|compressed)",
        "set model.quantization to what the model's config.json says, or to auto, and "
        "model.engine.dtype to one it supports; not every device has kernels for every kind",
    ),
    (
        r"unexpected keyword",
        "correct model.engine: its keys are vLLM's EngineArgs",
    ),
    (
        r"validation error",
        "correct model.engine: a value is not one that vLLM takes",
    ),
)


def words_of(problem: BaseException) -> str:
    """An exception's type and the line of its message that says most."""
    return f"{type(problem).__name__}: {_line(str(problem))}".removesuffix(": ")


def root_cause(said: str) -> str | None:
    """The last error in a log that is not merely about an error elsewhere."""
    lines = [_BEFORE.sub("", line).rstrip() for line in said.splitlines()]
    found = [
        number
        for number, line in enumerate(lines)
        if (_RAISED.match(line) or _CRASHED.match(line)) and not _ELSEWHERE.search(line)
    ]
    if not found:
        return None
    first = lines[found[-1]]
    kind, _, message = first.partition(": ")
    if _CRASHED.match(first) or not message:
        return first
    more = lines[found[-1] + 1 : found[-1] + 3]
    return f"{kind.rpartition('.')[2]}: " + _line("\n".join([message, *more]))


def hint_for(words: str) -> str:
    """What to do about an engine that could not start for this reason."""
    for pattern, hint in _HINTS:
        if re.search(pattern, words, re.IGNORECASE):
            return hint
    return "run `spotmill validate` on the job, then see the worker's log"


def _line(message: str) -> str:
    if "validation error" in message:
        # Pydantic's first line counts, its last advertises, and what was wrong stands between.
        counted, *rest = message.strip().splitlines()
        told = _VALUE_ERROR.search(message)
        wrong = told[1] if told else " ".join(line.strip() for line in rest[:2])
        return _short(f"{counted}: {_PYDANTIC_TAIL.sub('', wrong)}")
    lines = message.strip().splitlines()
    return _short(lines[0].strip()) if lines else ""


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
