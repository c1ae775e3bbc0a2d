"""The sample's models against each other through bare vLLM: quantized or not, drafting or not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.figure import Failure, Figure, Record, spread
from benchmarks.processes import Json, WholeRun, bare
from benchmarks.setting import MODELS, Setting
from benchmarks.workload import DRAFT, ticket_rows

_TOGETHER = "share of rows; in bf16 near-ties may fall differently in other batches"


def measure(setting: Setting) -> Iterator[Record]:
    if not setting.sample:
        yield Failure("quantization", f"has the sample's models alone, not {setting.model}")
        return
    with tempfile.TemporaryDirectory() as name:
        file = ticket_rows(Path(name), setting.rows(300, 2_000, 6_000), mixed=False).as_json()
        arguments = setting.llm_arguments()
        drafting: list[tuple[WholeRun, Json]] = []
        plain: list[tuple[WholeRun, Json]] = []
        for _ in range(setting.of_size(1, 2, 3)):
            drafting.append(bare(setting, file, arguments | {"speculative_config": DRAFT}))
            plain.append(bare(setting, file, arguments))
        original = replace(setting, model=str(MODELS / "target"))
        original_run, original_told = bare(setting, file, original.llm_arguments())
    yield from _speculation(drafting, plain)
    yield from _quantization(plain[-1], (original_run, original_told))


def _speculation(
    drafting: Sequence[tuple[WholeRun, Json]], plain: Sequence[tuple[WholeRun, Json]]
) -> Iterator[Record]:
    proposed = sum(told["draft_proposed"] for _, told in drafting)
    yield Figure(
        "quantization.accepted",
        "draft tokens accepted",
        sum(told["draft_accepted"] for _, told in drafting) / proposed,
        "draft model, 3 tokens at a time, greedy",
    )
    yield spread(
        "quantization.drafting",
        "draft model on / off, bare vLLM",
        [
            on.generate_rate / off.generate_rate
            for (on, _), (off, _) in zip(drafting, plain, strict=True)
        ],
        "output tokens a second, W8A8",
    )
    yield Figure(
        "quantization.same-with-draft",
        "answers identical with and without a draft model",
        identical(drafting[0][1]["tokens"], plain[0][1]["tokens"]),
        _TOGETHER,
    )


def _quantization(
    quantized: tuple[WholeRun, Json], original: tuple[WholeRun, Json]
) -> Iterator[Record]:
    sizes = {
        name: (MODELS / name / "model.safetensors").stat().st_size
        for name in ("target-w8a8", "target")
    }
    left, right = quantized[1]["tokens"], original[1]["tokens"]
    yield Figure(
        "quantization.size",
        "W8A8 / bf16 weights, size",
        sizes["target-w8a8"] / sizes["target"],
        f"{sizes['target-w8a8'] / 1e6:.1f} MB of {sizes['target'] / 1e6:.1f} MB; embeddings stay "
        "in bf16",
    )
    yield Figure(
        "quantization.speed",
        "W8A8 / bf16, speed",
        quantized[0].generate_rate / original[0].generate_rate,
        "output tokens a second, one pair",
    )
    yield Figure(
        "quantization.same-answers",
        "W8A8 and bf16 agree, whole answers",
        identical(left, right),
        "share of rows whose greedy answers are the same to the last token",
    )
    yield Figure(
        "quantization.same-tokens",
        "W8A8 and bf16 agree, tokens",
        same_prefix(left, right),
        "share of the original's tokens before the first difference of each row",
    )


def identical(left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> float:
    """The share of answers that are the same to the last token."""
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)


def same_prefix(left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> float:
    """The share of `right`'s tokens before each answer's first difference."""
    same = sum(
        next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        for a, b in zip(left, right, strict=True)
    )
    return same / sum(map(len, right))
