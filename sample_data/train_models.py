"""Train the sample target and draft models on generated tickets (CPU, torch only).

python sample_data/train_models.py --out sample_data/models
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

# Read when torch loads: on busy cores, threads that spin took nine times as long.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

# Run as a script, Python looks beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sample_data.make_tickets import tickets
from sample_data.quantize_w8a8 import quantize_checkpoint
from sample_data.training_text import Example, copy_practice, examples, train_tokenizer

# Training counts upwards from its seed; the shipped tickets have seeds 2026 and 2027.
TOKENIZER_SEED, VALIDATION_SEED, FIRST_TRAINING_SEED = 11, 12, 10_000
# Every word of the tickets has its token by then.
VOCAB_SIZE = 1536
CHUNK = 64
IGNORED = -100
# The body cannot be predicted, but learning to read it helps; the answer is what counts.
PROMPT_LOSS_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training, at `max_layers` layers or the model's own if that is fewer: `copies`
    of the examples are copy practice, `plain_share` of the tickets have short prompts, and tickets
    of over `max_words` are left out."""

    max_layers: int
    steps: int
    batch_size: int
    copies: float
    plain_share: float
    max_words: int


# Without copy practice the models had not learnt to copy a name after 1,300 steps: they guessed
# the product. Two layers learn it in 300 steps, eight did not; so the target starts with two.
STAGES = (
    Stage(2, 300, 48, copies=1.0, plain_share=0.0, max_words=0),
    Stage(2, 250, 32, copies=0.1, plain_share=0.9, max_words=30),
    Stage(2, 300, 16, copies=0.05, plain_share=0.15, max_words=200),
    Stage(8, 400, 16, copies=0.0, plain_share=0.15, max_words=200),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The shape of one model."""

    name: str
    hidden_size: int
    layers: int
    intermediate_size: int


TARGET = Recipe("target", 256, 8, 704)
# One layer is enough for nine guesses of ten; more would make the draft dearer.
DRAFT = Recipe("draft", 128, 1, 352)


def build(recipe: Recipe, layers: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh Llama of so many layers, with tied embeddings and heads of 64."""
    heads = recipe.hidden_size // 64
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def grown(
    model: LlamaForCausalLM, recipe: Recipe, layers: int, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """The same function with more layers: the new ones, on top, add nothing yet."""
    deeper = build(recipe, layers, tokenizer)
    deeper.load_state_dict(model.state_dict(), strict=False)
    for layer in deeper.model.layers[model.config.num_hidden_layers :]:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return deeper


def batches(
    tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the `collate`d batches of a stage, each of like lengths."""
    for start in range(0, stage.steps, CHUNK):
        made = sorted(_chunk(tokenizer, stage, seed + start), key=len)
        order = torch.randperm(CHUNK, generator=torch.Generator().manual_seed(seed + start))
        for index in order[: stage.steps - start].tolist():
            batch = made[index * stage.batch_size : (index + 1) * stage.batch_size]
            yield collate(batch, tokenizer.pad_token_id)


def _chunk(tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> list[Example]:
    count = CHUNK * stage.batch_size
    made = copy_practice(tokenizer, round(count * stage.copies), seed)
    endless = tickets(seed, sys.maxsize)
    fitting = (ticket for ticket in endless if len(ticket.body.split()) <= stage.max_words)
    rows = list(islice(fitting, count - len(made)))
    return made + examples(tokenizer, rows, stage.plain_share, seed)


def collate(batch: list[Example], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, next-token labels and loss weights, each (batch, length)."""
    shape = (len(batch), max(map(len, batch)))
    ids = torch.full(shape, pad_id)
    labels = torch.full(shape, IGNORED)
    weights = torch.zeros(shape)
    for row, example in enumerate(batch):
        whole = torch.tensor(example.prompt + example.answer)
        ids[row, : len(whole)] = whole
        labels[row, : len(whole) - 1] = whole[1:]
        weights[row, : len(whole) - 1] = PROMPT_LOSS_WEIGHT
        weights[row, len(example.prompt) - 1 : len(whole) - 1] = 1.0
    return ids, labels, weights


def loss_of(model: LlamaForCausalLM, ids: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross-entropy."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits
    losses = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return (losses * weights.flatten()).sum() / weights.sum()


def train(
    recipe: Recipe, stages: Sequence[Stage], tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """Train one model from scratch, stage after stage; the rate falls over the last half."""
    torch.manual_seed(0)
    steps = sum(stage.steps for stage in stages)
    model = build(recipe, min(recipe.layers, stages[0].max_layers), tokenizer)
    done, started = 0, time.perf_counter()
    for stage in stages:
        layers = min(recipe.layers, stage.max_layers)
        if layers > model.config.num_hidden_layers:
            model = grown(model, recipe, layers, tokenizer)
        optimizers = _optimizers(model)
        peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        for step, batch in enumerate(batches(tokenizer, stage, FIRST_TRAINING_SEED + done)):
            rate = min(1.0, (step + 1) / 30, 2 * (1 - done / steps))
            for optimizer, peak in zip(optimizers, peaks, strict=True):
                optimizer.param_groups[0]["lr"] = peak * rate
                optimizer.zero_grad()
            loss = loss_of(model, *batch)
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            done += 1
            if done % 50 == 0 or done == steps:
                print(
                    f"{recipe.name}, {layers} layers, step {done}/{steps}:"
                    f" {time.perf_counter() - started:.0f} s, loss {loss.item():.3f},"
                    f" {validate(model, tokenizer)}",
                    flush=True,
                )
    return model


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for n, p in model.named_parameters() if p.ndim == 1 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.01),
        # At a rate of 0.003 the embeddings held copying back.
        torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.98), weight_decay=0.0),
    ]


@torch.inference_mode()
def validate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> str:
    """How many answer tokens, and whole answers, are right when the truth precedes them."""
    made = examples(tokenizer, list(tickets(VALIDATION_SEED, 64)), 0.0, 0)
    right = total = whole = 0
    for start in range(0, len(made), 32):
        ids, labels, weights = collate(made[start : start + 32], tokenizer.pad_token_id)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guesses = model(input_ids=ids, use_cache=False).logits.argmax(-1)
        answer = weights == 1.0
        hits = (guesses == labels) & answer
        right += int(hits.sum())
        total += int(answer.sum())
        whole += int((hits.sum(1) == answer.sum(1)).sum())
    return f"held out: tokens {right / total:.1%}, whole answers {whole / len(made):.1%}"


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Write a self-contained bf16 checkpoint that stops at EOS."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(path)
    (path / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(path)


def main() -> None:
    """Train target and draft, and quantize the target, into `--out`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="0.02 for a smoke run")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    started = time.perf_counter()
    tokenizer = train_tokenizer(TOKENIZER_SEED, VOCAB_SIZE)
    print(f"tokenizer: {len(tokenizer)} tokens, {time.perf_counter() - started:.0f} s", flush=True)
    stages = [replace(stage, steps=round(stage.steps * args.steps_scale)) for stage in STAGES]
    for recipe in (TARGET, DRAFT):
        save(train(recipe, stages, tokenizer), tokenizer, args.out / recipe.name)
    quantize_checkpoint(args.out / "target", args.out / "target-w8a8")
    print(f"all done in {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
