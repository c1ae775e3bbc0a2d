"""Quantize a Llama checkpoint to INT8 weights and activations, as compressed-tensors files."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

INT8_MAX = 127


def quantize_checkpoint(source: Path, target: Path) -> None:
    """Write a W8A8 copy of `source`: every layer matrix in int8 with one scale per output channel,
    activations scaled per token at run time, embeddings and norms as they were."""
    target.mkdir(parents=True, exist_ok=True)
    written: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            written[name], written[f"{name}_scale"] = quantize_channels(tensor)
        else:
            written[name] = tensor
    save_file(written, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = quantization_config()
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for path in source.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            shutil.copy(path, target / path.name)


def quantize_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round (out, in) to int8, symmetric; returns it with its bf16 scales (out, 1)."""
    largest = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-8)
    # Rounded first, so that the integers fit the scale that is stored.
    scale = (largest / INT8_MAX).to(torch.bfloat16)
    rounded = (weight.float() / scale.float()).round().clamp(-INT8_MAX, INT8_MAX)
    return rounded.to(torch.int8), scale


def quantization_config() -> dict[str, Any]:
    """The `quantization_config` that compressed-tensors writes for this scheme."""
    common = {"num_bits": 8, "type": "int", "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": common | {"strategy": "channel", "dynamic": False},
                "input_activations": common | {"strategy": "token", "dynamic": True},
            }
        },
    }


def main() -> None:
    """Quantize the checkpoint in one directory into another."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    quantize_checkpoint(args.source, args.target)


if __name__ == "__main__":
    main()
