"""What every peer is given, and what it answers on the last line of its output."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Spec:
    """`engine` are `LLM(...)` arguments; rows have `prompt` and `max_tokens`; all is greedy."""

    model: str
    engine: dict[str, Any]
    rows: list[dict[str, Any]]
    folder: Path
    in_flight: int
    on_gpu: bool


def read_spec() -> Spec:
    """From the file that the first argument names."""
    document = json.loads(Path(sys.argv[1]).read_text())
    return Spec(**document | {"folder": Path(document["folder"])})


def flags(engine: dict[str, Any]) -> list[str]:
    """Engine arguments as options of vLLM's command line."""
    made: list[str] = []
    for name, value in engine.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            made.append(f"--{option}" if value else f"--no-{option}")
        else:
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            made.append(f"--{option}={text}")
    return made


def answer(rows: int, output_tokens: int, generate_seconds: float | None) -> None:
    """`generate_seconds` from the first request to the last answer, where the peer tells them."""
    document = {
        "rows": rows,
        "output_tokens": output_tokens,
        "generate_seconds": generate_seconds,
    }
    print(json.dumps(document), flush=True)
