"""Real vLLM under fire: the sample model's workers, killed while they load and while they work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.chaos.field import Field
from tests.chaos.outcome import Outcome
from tests.chaos.reckoning import Rows
from tests.chaos.schedule import Blow, RunPlan
from tests.e2e.house import SAMPLE, job_file, published, write

_BLOWS = (
    Blow("kill worker", 1.0, "checkpoint", "after"),
    # Five seconds into its life it imports vLLM or loads the model.
    Blow("kill worker", 8.0, "boot", seconds=5.0),
    Blow("kill worker", 1.0, "checkpoint", "before"),
    Blow("kill worker", 1.0, "publish", "before"),
)


def fight_with_vllm(field: Field) -> Outcome:
    """One worker at a time, three times the sample's tickets. Its answers are not compared with an
    undisturbed run's: in bf16, near-ties fall differently in batches of other make-up."""
    tickets = pq.read_table(SAMPLE / "tickets")
    plan = RunPlan(
        "chaos-vllm", 3 * len(tickets), 192, 1, _BLOWS, lease_seconds=4.0, patience_seconds=90.0
    )
    folder = field.folder / plan.run_id
    folder.mkdir()
    outcome = field.fight(plan, _job(field, plan, pa.concat_tables([tickets] * 3), folder))
    if not outcome.faults:
        answers = published(f"{field.bucket.uri}/answers/", plan.run_id)
        asked = tickets["ticket_id"].to_pylist() * 3
        if answers["ticket_id"].to_pylist() != asked or answers["error"].null_count != len(asked):
            outcome.faults.append("the published tickets are not those of the input, in order")
        outcome.rows = Rows(len(answers), lost=0, twice=0, different=0)
        manifest = field.ledger(plan.run_id).run_manifest()
        assert manifest is not None
        tokens = manifest["tokens"]
        outcome.notes.append(
            f"real vLLM: {tokens['output']} tokens published, {tokens['wasted']} wasted by its "
            "manifest; no engine's own count, no comparison of answers"
        )
    return outcome


def _job(field: Field, plan: RunPlan, rows: pa.Table, folder: Path) -> str:
    sections: dict[str, Any] = yaml.safe_load((SAMPLE / "job.yaml").read_text())
    write(rows, f"{field.bucket.uri}/prompts/{plan.run_id}/a.parquet", plan.shard_rows)
    model = sections["model"]
    model["id"] = str(SAMPLE / model["id"])
    model["speculative"]["model"] = str(SAMPLE / model["speculative"]["model"])
    sections |= {
        "input": sections["input"] | {"uri": f"{field.bucket.uri}/prompts/{plan.run_id}/"},
        "output": {"uri": f"{field.bucket.uri}/answers/"},
        "cost": {"prices": str(SAMPLE / "prices.yaml")},
        "shards": {"rows": plan.shard_rows},
        "chunks": {"rows": 16, "seconds": 0.5},
        "fleet": {"workers": plan.workers, "lease_seconds": plan.lease_seconds},
    }
    return str(job_file(folder / "job.yaml", **sections))
