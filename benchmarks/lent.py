"""One loaded engine, asked in turn by bare `LLM.generate` and by a worker that it is lent to.

What another process would change between two measurements, its memory's place and its cores, stays.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.setting import Setting
from benchmarks.workload import Rows
from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.ports import Engine
from pipeline.engines.model_files import local_model
from pipeline.engines.vllm import VllmEngine, load_vllm
from pipeline.job import ModelSpec
from pipeline.spot.signals import NoNotice
from pipeline.stores import StoreOptions


class Lent:
    """An engine that outlives the workers it is lent to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Kept for the next worker."""


@dataclass(frozen=True, slots=True)
class Step:
    """One iteration: when its tokens were there, how many, and of how many requests at hand."""

    at: float
    tokens: int
    requests: int


def full_rate(steps: Sequence[Step], capacity: int) -> float | None:
    """Output tokens a second from the first to the last step that had `capacity` requests at hand;
    None when there are not two such steps."""
    full = [n for n, step in enumerate(steps) if step.requests >= capacity]
    if len(full) < 2:
        return None
    first, last = full[0], full[-1]
    tokens = sum(step.tokens for step in steps[first + 1 : last + 1])
    return tokens / (steps[last].at - steps[first].at)


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows answered by one of the two. `seconds` of a worker begin when it has its engine, those
    in which the engine had requests are `engine_seconds`; for bare vLLM both are the call's."""

    rows: int
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    seconds: float
    engine_seconds: float
    processor_seconds: float
    full_rate: float | None
    checkpoints: int = 0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    @property
    def engine_rate(self) -> float:
        return self.tokens / self.engine_seconds

    @property
    def thrift(self) -> float:
        """Output tokens a second of processor time."""
        return self.tokens / self.processor_seconds

    @property
    def hits(self) -> float:
        """The share of prompt tokens that came from the prefix cache."""
        return self.cached_tokens / self.prompt_tokens


class LentEngine:
    """Answers rows in two ways. The prefix cache is emptied before each."""

    def __init__(self, engine: VllmEngine, setting: Setting) -> None:
        self._engine = engine
        self._setting = setting
        # The one place that looks behind the port, for the object that bare callers have.
        self._llm: Any = engine._llm
        self._steps: list[Step] = []
        self._watch_steps()

    @property
    def capacity(self) -> int:
        """Requests that the engine runs at once."""
        return int(self._llm.llm_engine.vllm_config.scheduler_config.max_num_seqs)

    def tokens_of(self, prompts: Sequence[str]) -> list[list[int]]:
        tokenizer = self._llm.get_tokenizer()
        return [tokenizer.encode(prompt) for prompt in prompts]

    def bare(self, rows: Rows) -> Answered:
        """One `LLM.generate` over all rows, each with its own parameters."""
        from vllm import SamplingParams

        documents = rows.documents()
        prompts = [row.pop("prompt") for row in documents]
        params = [SamplingParams(temperature=0.0, **limits) for limits in documents]
        with self._measured() as spent:
            outputs = self._llm.generate(prompts, params, use_tqdm=False)
        seconds, processor = spent()
        return Answered(
            rows=len(outputs),
            tokens=sum(len(output.outputs[0].token_ids) for output in outputs),
            prompt_tokens=sum(len(output.prompt_token_ids) for output in outputs),
            cached_tokens=sum(output.num_cached_tokens or 0 for output in outputs),
            seconds=seconds,
            engine_seconds=seconds,
            processor_seconds=processor,
            full_rate=full_rate(self._steps, self.capacity),
        )

    def worker(self, job_file: Path, name: str) -> Answered:
        """A whole run by one worker, books and all; its first second is the one with the engine."""
        here = open_job(str(job_file), run_id=name)
        plan = wiring.plan(here)
        with self._measured() as spent:
            wiring.run_worker(here, NoNotice(), load_engine=lambda _: Lent(self._engine))
        _, processor = spent()
        manifest = wiring.close_books(here, plan)
        [worker] = manifest["workers"]
        buckets = worker["seconds"]
        tokens = manifest["tokens"]
        return Answered(
            rows=manifest["output"]["rows_ok"],
            tokens=tokens["output"],
            prompt_tokens=tokens["input"],
            cached_tokens=tokens["cached_input"],
            seconds=sum(buckets[name] for name in ("useful", "wasted", "idle", "drain")),
            engine_seconds=buckets["useful"],
            processor_seconds=processor,
            full_rate=full_rate(self._steps, self.capacity),
            checkpoints=len(here.store.list(f"runs/{name}/checkpoints/")),
        )

    @contextmanager
    def _measured(self) -> Iterator[Callable[[], tuple[float, float]]]:
        self._llm.reset_prefix_cache()
        self._steps.clear()
        # Or one of the two pays for the other's garbage.
        gc.collect()
        began, processor = time.monotonic(), _processor_seconds()
        ended: list[float] = []

        def spent() -> tuple[float, float]:
            return ended[0], ended[1]

        yield spent
        ended += [time.monotonic() - began, _processor_seconds() - processor]

    def _watch_steps(self) -> None:
        engine = self._llm.llm_engine
        inner: Callable[[], Any] = engine.engine_core.get_output

        def watched() -> Any:
            outputs = inner()
            tokens = sum(len(output.new_token_ids) for output in outputs.outputs)
            requests: int = engine.output_processor.get_num_unfinished_requests()
            self._steps.append(Step(time.monotonic(), tokens, requests))
            return outputs

        engine.engine_core.get_output = watched


def lend(setting: Setting, **engine: Any) -> LentEngine:
    """Load the setting's model in this process, with the arguments that jobs over it have."""
    model = ModelSpec.model_validate(setting.job_model(**engine))
    return LentEngine(load_vllm(local_model(model, StoreOptions()), setting.device), setting)


def _processor_seconds() -> float:
    """Of this process and its children, such as an engine's core of its own."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))
