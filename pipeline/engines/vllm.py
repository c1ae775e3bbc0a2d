"""vLLM behind the engine port. The only file that imports vLLM, and only to load an engine."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import EngineDied, EngineFailed, EngineRefused, RowRejected
from pipeline.core.rows import ChatPrompt, Completion, EngineMetrics, Prompt, Request, Sampling
from pipeline.engines.limits import Device
from pipeline.job import ModelSpec

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams

log = logging.getLogger("spotmill.engine")

_QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "TOKENIZERS_PARALLELISM": "false",
}
_CONTEXT_TOKENS = 8
_PROPOSED = "vllm:spec_decode_num_draft_tokens"
_ACCEPTED = "vllm:spec_decode_num_accepted_tokens"


def device_at_hand() -> Device:
    """What vLLM would run on here, asking torch alone. Raises `EngineRefused` without it."""
    try:
        import torch
    except ImportError as problem:
        raise EngineRefused(
            "no engine is installed here",
            why=str(problem),
            hint="install spotmill with its `cpu` or `gpu` extra",
        ) from problem
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_vllm(model: ModelSpec, device: Device) -> VllmEngine:
    """Load a model, by local path or hub id. Raises `EngineFailed` with vLLM's own words."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if device == "cpu":
        # Without a device to overlap with, an engine core of its own only starts slowly.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if Path(model.id).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # vLLM 0.32's own use of a name that torch 2.13 deprecates; nobody here can act on it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\..*")
    try:
        from vllm import LLM

        return VllmEngine(LLM(**_arguments(model)))
    except Exception as problem:
        raise EngineFailed(
            "the engine could not start",
            where=model.id,
            why=f"{type(problem).__name__}: {_last_words(problem)}",
            hint=_hint(str(problem)),
        ) from problem


class VllmEngine:
    """Implements `Engine` by feeding `LLM.llm_engine` one request at a time."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        # A tokenizer of its own, since `encode` runs beside the engine's detokenizing.
        self._tokenizer = copy.deepcopy(llm.get_tokenizer())
        self._requests: dict[str, Request] = {}
        self._before = EngineMetrics()
        self._before = self.metrics()

    @property
    def window(self) -> int:
        """A quarter more than the engine runs at once, so that a place never stays empty a step."""
        running: int = self._engine.vllm_config.scheduler_config.max_num_seqs
        return running + max(8, running // 4)

    @property
    def version(self) -> str:
        import vllm

        return f"vllm {vllm.__version__}"

    @property
    def own_process(self) -> bool:
        return False

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        try:
            if isinstance(prompt, ChatPrompt):
                tokens = self._tokenizer.apply_chat_template(
                    [dict(message) for message in prompt.messages],
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=False,
                )
            else:
                tokens = self._tokenizer.encode(prompt.text)
        except Exception as problem:
            # Chat templates are programs that come with models: they may raise anything.
            raise RowRejected(f"the tokenizer refuses the prompt: {problem}") from problem
        return tuple(tokens)

    def submit(self, request: Request) -> None:
        from vllm.exceptions import VLLMValidationError

        prompt = {
            "type": "token",
            "prompt_token_ids": [*request.prompt_token_ids, *request.saved],
        }
        try:
            self._engine.add_request(request.id, prompt, _sampling_params(request))
        except (VLLMValidationError, ValueError) as problem:
            raise RowRejected(f"the engine refuses the row: {problem}") from problem
        self._requests[request.id] = request

    def step(self) -> Sequence[Completion]:
        try:
            outputs = self._engine.step()
        except Exception as problem:
            raise EngineDied(
                "the engine died", why=f"{type(problem).__name__}: {_last_words(problem)}"
            ) from problem
        return [self._completion(output) for output in outputs if output.finished]

    def in_flight(self) -> Mapping[str, tuple[int, ...]]:
        # FINAL_ONLY requests show their tokens only here; asked a few times a minute, this costs
        # nothing, where cumulative outputs would cost every step. Pinned by a test.
        states = self._engine.output_processor.request_states.values()
        begun = {
            state.external_req_id: tuple(state.detokenizer.output_token_ids) for state in states
        }
        return {
            name: (*request.saved, *begun.get(name, ())) for name, request in self._requests.items()
        }

    def abort(self, request_ids: Iterable[str]) -> None:
        known = [name for name in request_ids if self._requests.pop(name, None)]
        if known:
            self._engine.abort_request(known)

    def metrics(self) -> EngineMetrics:
        counters = {metric.name: metric for metric in self._llm.get_metrics()}

        def value(name: str) -> int:
            return int(getattr(counters.get(name), "value", 0))

        # The registry is the process's: an engine loaded earlier in it has counted there too.
        return replace(
            self._before,
            draft_proposed=value(_PROPOSED) - self._before.draft_proposed,
            draft_accepted=value(_ACCEPTED) - self._before.draft_accepted,
        )

    def close(self) -> None:
        engine_core = self._engine.engine_core
        engine_core.shutdown()

    def _completion(self, output: Any) -> Completion:
        request = self._requests.pop(output.request_id)
        answer = output.outputs[0]
        tokens = (*request.saved, *answer.token_ids)
        text = answer.text if not request.saved else self._text(request, tokens, answer)
        return Completion(
            request_id=request.id,
            text=text,
            token_ids=tokens,
            finish_reason=answer.finish_reason or "abort",
            cached_tokens=output.num_cached_tokens or 0,
        )

    def _text(self, request: Request, tokens: tuple[int, ...], answer: Any) -> str:
        """What vLLM would have said, had it generated the saved tokens too.

        It decodes after the prompt, which decides on a leading space, and leaves a stop token out.
        """
        before = request.prompt_token_ids[-_CONTEXT_TOKENS:]
        shown = tokens[:-1] if answer.finish_reason == "stop" else tokens
        whole: str = self._tokenizer.decode((*before, *shown), skip_special_tokens=True)
        prompt: str = self._tokenizer.decode(before, skip_special_tokens=True)
        return whole[len(prompt) :]


def _arguments(model: ModelSpec) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": model.id,
        "revision": model.revision,
        "max_model_len": model.max_model_len,
        "load_format": "safetensors",
        "disable_log_stats": False,
        "use_tqdm_on_load": False,
        "seed": 0,
    }
    if model.quantization not in ("auto", "none"):
        arguments["quantization"] = model.quantization
    if model.speculative.method != "none":
        arguments["speculative_config"] = model.speculative.model_dump(exclude_none=True)
    return arguments | model.engine


def _sampling_params(request: Request) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    asked: Sampling = request.sampling
    return SamplingParams(
        max_tokens=asked.max_tokens - len(request.saved),
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        min_p=asked.min_p,
        seed=asked.seed,
        stop=list(asked.stop),
        min_tokens=asked.min_tokens,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        repetition_penalty=asked.repetition_penalty,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _last_words(problem: BaseException) -> str:
    return (str(problem).strip() or repr(problem)).splitlines()[-1]


def _hint(message: str) -> str:
    hints = {
        "out of memory": "lower model.engine.gpu_memory_utilization or max_model_len",
        "KV cache": "lower max_model_len, or give the cache more memory in model.engine",
        "Unrecognized": "this model's architecture is unknown to this vLLM: check its version",
        "unexpected keyword": "correct model.engine: its keys are vLLM's EngineArgs",
    }
    found = [hint for words, hint in hints.items() if words.lower() in message.lower()]
    return found[0] if found else "run `spotmill validate` on the job, then see the worker's log"
