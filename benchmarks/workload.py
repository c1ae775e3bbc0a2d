"""The prompts every figure is measured on: the sample's tickets, more of them, from other seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from sample_data.make_tickets import TEMPLATE, ticket_table, tickets

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "sample_data" / "models"
_SEED = 7_000
MAX_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Workload:
    """The same rows as a dataset for spotmill and as prompts for bare vLLM."""

    folder: Path
    rows: int

    @property
    def prompts_file(self) -> Path:
        return self.folder / "prompts.json"

    def job_file(
        self, output: Path, speculate: bool, chunks: Mapping[str, float] | None = None
    ) -> Path:
        """By default a checkpoint is due about 50 times, and every 5 seconds."""
        job: dict[str, Any] = yaml.safe_load((ROOT / "sample_data" / "job.yaml").read_text())
        model = job["model"] | {"id": str(MODELS / "target-w8a8")}
        model["speculative"] = model["speculative"] | {"model": str(MODELS / "draft")}
        if not speculate:
            model["speculative"] = "none"
        job |= {
            "input": job["input"] | {"uri": str(self.folder / "tickets")},
            "output": {"uri": str(output)},
            "model": model,
            "shards": {"rows": -(-self.rows // 8)},
            "chunks": dict(chunks or {"rows": max(1, self.rows // 50), "seconds": 5}),
            "cost": {},
        }
        path = self.folder / f"job-{output.name}.yaml"
        path.write_text(yaml.safe_dump(job))
        return path


def make_workload(folder: Path, rows: int) -> Workload:
    """8 shards and about 50 chunks, whatever the number of rows."""
    made = list(tickets(_SEED, rows))
    (folder / "tickets").mkdir()
    pq.write_table(ticket_table(made), folder / "tickets/part-0.parquet", row_group_size=rows // 8)
    prompts = [TEMPLATE.replace("{{ body }}", ticket.body) for ticket in made]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    return Workload(folder, rows)


def engine_arguments(model: str, speculate: bool) -> dict[str, Any]:
    """What the sample job hands to vLLM, for the bare engine."""
    arguments: dict[str, Any] = {
        "model": str(MODELS / model),
        "max_model_len": 1024,
        "enforce_eager": True,
        "kv_cache_memory_bytes": 1 << 30,
        "block_size": 32,
        "seed": 0,
    }
    if speculate:
        arguments["speculative_config"] = {
            "method": "draft_model",
            "model": str(MODELS / "draft"),
            "num_speculative_tokens": 3,
        }
    return arguments
