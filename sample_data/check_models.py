"""Measure the sample models with real vLLM: quality, agreement, acceptance and speed.

python sample_data/check_models.py --models sample_data/models
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Run as a script, Python looks beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sample_data.make_tickets import MESSAGES_SEED, TICKETS_SEED, chat, tickets
from sample_data.training_text import raw_prompt

MAX_TOKENS = 96
SEQUENCES = 64
WARM_UP_SEED = 13


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the target; `draft_tokens` 0 means no speculation."""

    model: str
    draft_tokens: int = 0
    dtype: str = "bfloat16"
    sequences: int = SEQUENCES
    messages: bool = False

    @property
    def label(self) -> str:
        parts = [self.model, self.dtype, f"{self.sequences} at a time"]
        parts += [f"{self.draft_tokens} draft tokens"] if self.draft_tokens else []
        parts += ["messages"] if self.messages else []
        return ", ".join(parts)


VARIANTS = (
    Variant("target"),
    Variant("target", 3),
    Variant("target-w8a8"),
    Variant("target-w8a8", 3),
    Variant("target-w8a8", 4),
    Variant("target-w8a8", 0, "float32"),
    Variant("target-w8a8", 3, "float32"),
    Variant("target-w8a8", sequences=1),
    Variant("target-w8a8", 3, sequences=1),
    Variant("target-w8a8", 3, messages=True),
)


def measure(models: Path, variant: Variant) -> dict[str, Any]:
    """Generate the shipped dataset once and return outputs and figures."""
    from vllm import LLM, SamplingParams

    options: dict[str, Any] = {}
    if variant.model.endswith("w8a8"):
        options["quantization"] = "compressed-tensors"
    if variant.draft_tokens:
        options["speculative_config"] = {
            "method": "draft_model",
            "model": str(models / "draft"),
            "num_speculative_tokens": variant.draft_tokens,
        }
    llm = LLM(
        str(models / variant.model),
        dtype=variant.dtype,
        max_model_len=1024,
        max_num_seqs=variant.sequences,
        kv_cache_memory_bytes=1 << 30,
        block_size=32,
        enforce_eager=True,
        disable_log_stats=False,
        seed=0,
        **options,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)

    def generate(seed: int, count: int) -> Any:
        bodies = [ticket.body for ticket in tickets(seed, count)]
        if variant.messages:
            return llm.chat([chat(body) for body in bodies], sampling, use_tqdm=False)
        return llm.generate([raw_prompt(body) for body in bodies], sampling, use_tqdm=False)

    generate(WARM_UP_SEED, 8)
    before = _counters(llm)
    seed, count = (MESSAGES_SEED, 96) if variant.messages else (TICKETS_SEED, 384)
    started = time.perf_counter()
    outputs = generate(seed, count)
    seconds = time.perf_counter() - started
    counted = {name: value - before[name] for name, value in _counters(llm).items()}
    answers = [ticket.answer for ticket in tickets(seed, count)]
    completions = [output.outputs[0] for output in outputs]
    token_count = sum(len(completion.token_ids) for completion in completions)
    return {
        "label": variant.label,
        "token_ids": [list(completion.token_ids) for completion in completions],
        "text": [completion.text for completion in completions],
        "stopped": sum(c.finish_reason == "stop" for c in completions) / count,
        "right": sum(c.text == a for c, a in zip(completions, answers, strict=True)) / count,
        "tokens_per_s": token_count / seconds,
        "tokens_per_answer": token_count / count,
        **_speculation(counted),
    }


def _counters(llm: Any) -> dict[str, int]:
    return {
        metric.name.removeprefix("vllm:spec_decode_"): metric.value
        for metric in llm.get_metrics()
        if metric.name.startswith("vllm:spec_decode_num") and hasattr(metric, "value")
    }


def _speculation(counted: dict[str, int]) -> dict[str, float]:
    if not counted.get("num_drafts"):
        return {}
    accepted = counted["num_accepted_tokens"]
    return {
        "acceptance": accepted / counted["num_draft_tokens"],
        "tokens_per_step": 1 + accepted / counted["num_drafts"],
    }


def agreement(ours: list[list[int]], theirs: list[list[int]]) -> tuple[float, float]:
    """Share of identical outputs, and of tokens before the first difference."""
    same = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)
    before = 0
    for a, b in zip(ours, theirs, strict=True):
        pairs = enumerate(zip(a, b, strict=False))
        before += next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))
    return same, before / sum(map(len, ours))


def main() -> None:
    """Measure every variant in a process of its own and print what was found."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--variant", type=int, help="measure this one, in this process")
    parser.add_argument("--result", type=Path)
    args = parser.parse_args()
    if args.variant is not None:
        args.result.write_text(json.dumps(measure(args.models, VARIANTS[args.variant])))
        # vLLM takes seconds to tear itself down.
        os._exit(0)
    results: dict[Variant, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, variant in enumerate(VARIANTS):
            result = Path(folder) / f"{index}.json"
            command = [sys.executable, __file__, "--models", str(args.models.resolve())]
            command += ["--variant", str(index), "--result", str(result)]
            try:
                subprocess.run(command, env=os.environ | FAST_START, check=True)
            except subprocess.CalledProcessError:
                print(f"{variant.label}: failed", flush=True)
                continue
            results[variant] = json.loads(result.read_text())
            _report(variant, results)
    for variant in (VARIANTS[3], VARIANTS[-1]):
        for text in results[variant]["text"][:3]:
            print(repr(text))


FAST_START = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
}


def _report(variant: Variant, results: dict[Variant, dict[str, Any]]) -> None:
    found = results[variant]
    figures = [f"{found['tokens_per_s']:.0f} tokens/s", f"stopped {found['stopped']:.1%}"]
    figures += [f"right {found['right']:.1%}", f"{found['tokens_per_answer']:.1f} tokens/answer"]
    if "acceptance" in found:
        figures.append(f"accepted {found['acceptance']:.1%} of the draft")
        figures.append(f"{found['tokens_per_step']:.2f} tokens per step")
    for other in results:
        if other.messages != variant.messages or other is variant:
            continue
        if other.draft_tokens == 0 and other.sequences == SEQUENCES:
            same, tokens = agreement(found["token_ids"], results[other]["token_ids"])
            figures.append(f"equal to [{other.label}] {same:.1%} ({tokens:.1%} of tokens)")
    print(f"{variant.label}: {'; '.join(figures)}", flush=True)


if __name__ == "__main__":
    main()
