"""vLLM behind the engine port. The only file that imports vLLM, and only to load an engine."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import lru_cache
from threading import Event
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import EngineDied, EngineFailed, EngineRefused, RowRejected
from pipeline.core.rows import Completion, EngineMetrics, Prompt, Request, Sampling
from pipeline.engines.continuation import positions, sampling_arguments
from pipeline.engines.draft_switch import SWITCH
from pipeline.engines.guardian import Guardian
from pipeline.engines.last_words import hint_for, root_cause, words_of
from pipeline.engines.limits import Device
from pipeline.engines.overheard import Overheard
from pipeline.engines.own_process import CoreProcesses
from pipeline.engines.starting import arguments, set_environment
from pipeline.engines.tokenizing import Tokenizing
from pipeline.engines.watchdog import Watchdog, leave_process
from pipeline.job import ModelSpec

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams

log = logging.getLogger("spotmill.engine")

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


def import_vllm(model: ModelSpec, *, own_process: bool) -> None:
    """Take the seconds that this takes while the files of `model` are still on their way.

    What fails here fails in `load_vllm`, with its explanation.
    """
    set_environment(model, own_process=own_process)
    with suppress(Exception):
        from vllm import LLM  # noqa: F401


def load_vllm(
    model: ModelSpec, device: Device, *, own_process: bool = False, hang_seconds: float = 300.0
) -> VllmEngine:
    """Load a model, by local path or hub id. Raises `EngineFailed` with vLLM's own words.

    On a CPU the engine runs in this process unless it is to have its `own_process`, so that a
    crash of the one is survived by the other; on a GPU it always has its own. After `hang_seconds`
    without a token a process of its own is killed, and `step` raises `EngineDied`; where it has
    none, this process ends with exit code 1.

    One at a time: `close` the one before, dead or alive.
    """
    # Without a device to overlap with, an engine core of its own only starts slowly.
    separate = own_process or device == "cuda"
    set_environment(model, own_process=separate)
    overheard = Overheard()
    try:
        from vllm import LLM, envs

        # An engine in this process has frozen what it read of the environment.
        envs.disable_envs_cache()
        with ExitStack() as stack:
            if separate:
                stack.callback(Guardian.of_children_to_come().dismiss)
                stack.enter_context(overheard.listening())
            llm = LLM(**arguments(model))
    except Exception as problem:
        # Of a core of its own, vLLM says here only that it has said why elsewhere.
        said = root_cause(overheard.text()) if separate else None
        why = said or words_of(problem)
        raise EngineFailed(
            "the engine could not start", where=model.id, why=why, hint=hint_for(why)
        ) from problem
    return VllmEngine(llm, hang_seconds, overheard if separate else None)


class VllmEngine:
    """Implements `Engine` by feeding `LLM.llm_engine` one request at a time.

    `in_flight` and `metrics` answer after a death, and after `close`, with what was last known.
    """

    def __init__(self, llm: LLM, hang_seconds: float, overheard: Overheard | None) -> None:
        import vllm

        self.version = f"vllm {vllm.__version__}"
        # A quarter more than the engine runs at once, so that a place never stays empty a step.
        running: int = llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
        self.window = running + max(8, running // 4)
        self._llm: LLM | None = llm
        self._tokenizing = Tokenizing(llm.get_tokenizer())
        self._requests: dict[str, Request] = {}
        self._cut: dict[str, Sequence[int]] = {}
        self._finished = 0
        self._last_in_flight: Mapping[str, Sequence[int]] = {}
        self._before = EngineMetrics()
        self._before = self._last_metrics = self.metrics()
        self._closed = Event()
        self._core: CoreProcesses | None = None
        wait: Callable[[float], bool] = self._closed.wait
        hung: Callable[[str], None] = leave_process
        if overheard is not None:
            started = llm.llm_engine.engine_core.resources.engine_manager.processes
            self._core = CoreProcesses(started, overheard)
            wait, hung = self._core.wait, self._core.kill
        self._watchdog = Watchdog(hang_seconds, self._mark, wait, hung, self._release_step)
        self._watchdog.start()

    @property
    def own_process(self) -> bool:
        return self._core is not None

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        return self._tokenizing.encode(prompt)

    def submit(self, request: Request) -> None:
        from vllm.exceptions import VLLMClientError

        engine = self._engine
        try:
            # Saved between two bytecodes, tokens may be an answer that had just become whole.
            unfinished = 0 < len(request.saved) < request.sampling.max_tokens
            begun = _begun(engine, request) if unfinished else None
            if begun is None:
                request = replace(request, saved=())
            prompt = {
                "type": "token",
                "prompt_token_ids": [*request.prompt_token_ids, *request.saved],
            }
            # vLLM works on a copy of its own.
            params = _sampling_params(request.sampling, saved=len(request.saved))
            name = engine.add_request(request.id, prompt, params)
        except (VLLMClientError, ValueError) as problem:
            engine.output_processor.abort_requests([request.id], internal=False)
            raise RowRejected(f"the engine refuses the row: {problem}") from problem
        except Exception as problem:
            raise self._died(problem) from problem
        if begun is not None:
            engine.output_processor.request_states[name].detokenizer = begun
        self._requests[request.id] = request

    def step(self) -> Sequence[Completion]:
        engine = self._engine
        if not self._requests:
            # A core of its own would have nothing to answer, and be waited for.
            return []
        self._watchdog.pulse += 1
        try:
            outputs = engine.step()
        except Exception as problem:
            raise self._died(problem) from problem
        finally:
            self._watchdog.pulse += 1
        finished = [output for output in outputs if output.finished]
        # A core that gets SIGTERM or SIGINT, as all of a group does, hands back what runs in it.
        self._cut = {
            output.request_id: tuple(output.outputs[0].token_ids)
            for output in finished
            if output.outputs[0].finish_reason == "abort"
        }
        answered = [output for output in finished if output.request_id not in self._cut]
        return [self._completion(output) for output in answered]

    def in_flight(self) -> Mapping[str, Sequence[int]]:
        if self._llm is None:
            return self._last_in_flight
        # FINAL_ONLY requests show their tokens only here; asked a few times a minute, this costs
        # nothing, where cumulative outputs would cost every step. Pinned by a test.
        states = self._llm.llm_engine.output_processor.request_states.values()
        begun = {state.external_req_id: state.detokenizer.output_token_ids for state in states}
        known = begun | self._cut
        return {name: known.get(name, request.saved) for name, request in self._requests.items()}

    def abort(self, request_ids: Iterable[str]) -> None:
        known = [name for name in request_ids if self._requests.pop(name, None)]
        if known and self._llm is not None:
            try:
                self._llm.llm_engine.abort_request(known)
            except Exception as problem:
                # They are gone with it; the next step says so.
                log.debug("abort in a dead engine: %s", problem)

    def metrics(self) -> EngineMetrics:
        if self._llm is None:
            return self._last_metrics
        if self._llm.llm_engine.vllm_config.speculative_config is None:
            return EngineMetrics()
        proposed, accepted = _counted(_PROPOSED), _counted(_ACCEPTED)
        # The registry is the process's: an engine loaded earlier in it has counted there too.
        return replace(
            self._before,
            draft_proposed=proposed - self._before.draft_proposed,
            draft_accepted=accepted - self._before.draft_accepted,
        )

    @property
    def draft_depth(self) -> int:
        """Drafts a row that it was loaded for; 0 without speculation, or where it cannot be told
        to make fewer."""
        config = self._llm and self._llm.llm_engine.vllm_config
        if not config or config.speculative_config is None:
            return 0
        return 0 if config.scheduler_config.async_scheduling else int(config.num_speculative_tokens)

    def speculate(self, depth: int) -> None:
        """At most `depth` drafts a row from now on; 0 is as without. Raises `EngineDied`."""
        engine = self._engine
        try:
            told = engine.collective_rpc(SWITCH, args=(depth,))
        except Exception as problem:
            raise self._died(problem) from problem
        if not all(told):
            raise EngineFailed("the engine cannot change its draft depth", where="vLLM's worker")

    def forget_prefixes(self) -> None:
        """Empty the prefix cache; with nothing in flight, so that one pass is like another."""
        self._engine.reset_prefix_cache()

    def close(self) -> None:
        """Frees the device and the memory. Never raises; may be called again."""
        if self._llm is None:
            return
        self._last_in_flight, self._last_metrics = self.in_flight(), self.metrics()
        engine_core, self._llm = self._llm.llm_engine.engine_core, None
        self._closed.set()
        try:
            engine_core.shutdown()
        except Exception as problem:
            log.warning("the engine did not shut down in order: %s", words_of(problem))
        if self._core is not None:
            self._core.kill()
            self._core.release()
        # Its parts refer to each other in circles, and hold the weights until these are found.
        del engine_core
        gc.collect()

    @property
    def _engine(self) -> Any:
        if self._llm is None:
            raise EngineDied("the engine is closed")
        if self._cut:
            raise self._died(EngineDied("it was told to stop"))
        return self._llm.llm_engine

    def _completion(self, output: Any) -> Completion:
        request = self._requests.pop(output.request_id)
        self._finished += 1
        answer = output.outputs[0]
        return Completion(
            request_id=request.id,
            text=answer.text,
            token_ids=tuple(answer.token_ids),
            finish_reason=answer.finish_reason or "abort",
            cached_tokens=output.num_cached_tokens or 0,
            logprobs=positions(answer.logprobs, request.sampling.logprobs),
        )

    def _mark(self) -> tuple[int, int] | None:
        """Asked by the watchdog's thread; changes with every token."""
        llm = self._llm
        if llm is None or not self._requests:
            return None
        # Copied in one go, since the other thread changes it meanwhile.
        states = list(llm.llm_engine.output_processor.request_states.values())
        return self._finished, sum(state.detokenizer.num_output_tokens() for state in states)

    def _release_step(self) -> None:
        """Asked by the watchdog's thread when nothing runs any more."""
        llm = self._llm
        if llm is not None and self._core is not None:
            # vLLM 0.32's monitor ends the thread that fills this queue without a word in it, and
            # a step waits for ever.
            llm.llm_engine.engine_core.outputs_queue.put_nowait(EngineDied("its process ended"))

    def _died(self, problem: Exception) -> EngineDied:
        from vllm.v1.engine.exceptions import EngineDeadError

        known = self._core is not None and (
            self._core.dead or isinstance(problem, EngineDied | EngineDeadError)
        )
        why = self._core.last_words() if self._core is not None and known else words_of(problem)
        return EngineDied("the engine died", why=why)


def _counted(name: str) -> int:
    """One of vLLM's counters. Its own `get_metrics` reads all of them, which takes ten milliseconds
    of the engine's thread; here it is asked whenever something is saved."""
    from prometheus_client import REGISTRY

    found = REGISTRY.restricted_registry([f"{name}_total"]).collect()
    return int(sum(sample.value for metric in found for sample in metric.samples))


def _begun(engine: Any, request: Request) -> Any:
    """The request's detokenizer as it was after the saved tokens, so that stop strings, characters
    and spaces that straddle the seam are vLLM's own; None when the answer had ended in them."""
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    as_it_was = EngineCoreRequest(
        request_id=request.id,
        prompt_token_ids=list(request.prompt_token_ids),
        mm_features=None,
        sampling_params=_sampling_params(request.sampling, saved=0),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    detokenizer = IncrementalDetokenizer.from_new_request(
        engine.output_processor.tokenizer, as_it_was
    )
    ended = detokenizer.update(list(request.saved), stop_terminated=False)
    return None if ended else detokenizer


@lru_cache
def _sampling_params(sampling: Sampling, saved: int) -> SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    asked = sampling_arguments(sampling, saved)
    structured = asked.pop("structured")
    return SamplingParams(
        **asked,
        structured_outputs=structured and StructuredOutputsParams(**structured),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
