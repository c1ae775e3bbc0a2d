"""What a benchmark is run with: how large, on which device, with which model and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pipeline.engines.limits import Device

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "sample_data" / "models"
SAMPLE_MODEL = str(MODELS / "target-w8a8")
CONTEXT = 1024

Size = Literal["quick", "default", "full"]
T = TypeVar("T")
Json = dict[str, Any]

# A laptop's engine, as the sample job has it: nothing is compiled, the cache is small.
_CPU_ENGINE: Json = {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 30, "block_size": 32}
_GPU_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """`model` is a path or a hub id. `install` lets peers be installed where they are missing.
    `times` multiplies the rows that a model answers, for machines that are done too soon."""

    size: Size = "default"
    device: Device = "cpu"
    model: str = SAMPLE_MODEL
    install: bool = True
    times: int = 1

    @property
    def sample(self) -> bool:
        """Whether the model is the sample's, of which other forms are at hand."""
        return self.model == SAMPLE_MODEL

    @property
    def block_size(self) -> int:
        return int(_CPU_ENGINE["block_size"]) if self.device == "cpu" else _GPU_BLOCK

    def of_size(self, quick: T, default: T, full: T) -> T:
        return {"quick": quick, "default": default, "full": full}[self.size]

    def rows(self, quick: int, default: int, full: int) -> int:
        return self.times * self.of_size(quick, default, full)

    def engine(self, **more: Any) -> Json:
        """The engine's arguments beside the model and its length; `more` go over them."""
        own = _CPU_ENGINE if self.device == "cpu" else {"block_size": _GPU_BLOCK}
        return own | more

    def llm_arguments(self, **more: Any) -> Json:
        """What bare `LLM(...)` is given, which is what a job's worker gives it."""
        return {
            "model": self.model,
            "max_model_len": CONTEXT,
            "seed": 0,
            "disable_log_stats": False,
            **self.engine(**more),
        }

    def job_model(self, **more: Any) -> Json:
        """A job file's `model`."""
        return {"id": self.model, "max_model_len": CONTEXT, "engine": self.engine(**more)}

    def to_json(self) -> Json:
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Setting:
        return Setting(**document)
