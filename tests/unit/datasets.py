"""Small datasets on this disk, and the short way from a job over them to its rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import RowRejected
from pipeline.core.rows import ChatPrompt, FinishedRow, TextPrompt
from pipeline.dataset.plan_file import Plan
from pipeline.dataset.planning import plan_job
from pipeline.dataset.source import ParquetShard, ParquetSource
from pipeline.job import JobSpec
from pipeline.stores.bodies import whole
from pipeline.stores.options import StoreOptions

OPTIONS = StoreOptions()


def job_over(
    place: Path | str,
    *,
    sampling: dict[str, Any] | None = None,
    shard_rows: int = 1_000,
    **prompt: Any,
) -> JobSpec:
    """A job over this place; `prompt` is the rest of `input`, a column `q` if it says nothing."""
    given = prompt if {"prompt", "messages", "template"} & set(prompt) else prompt | {"prompt": "q"}
    return JobSpec.model_validate(
        {
            "name": "n",
            "input": {"uri": str(place), **given},
            "output": {"uri": "memory://out/"},
            "model": {"id": "m"},
            "sampling": sampling or {},
            "shards": {"rows": shard_rows},
        }
    )


def written(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def planned(job: JobSpec) -> Plan:
    return plan_job(job, OPTIONS)


def opened(job: JobSpec) -> list[ParquetShard]:
    """Every shard of the job's dataset, read."""
    plan = planned(job)
    source = ParquetSource(job, plan.schema, OPTIONS)
    return [source.open(shard) for shard in plan.shards]


def prompts(job: JobSpec) -> list[str]:
    """The text prompts of all shards, in order."""
    found = []
    for shard in opened(job):
        for row in range(shard.rows):
            prompt = shard.prompt(row)
            assert isinstance(prompt, TextPrompt)
            found.append(prompt.text)
    return found


def messages_or_error(job: JobSpec) -> list[tuple[dict[str, str], ...] | str]:
    """Of each row, its messages, or why it has none."""
    found: list[tuple[dict[str, str], ...] | str] = []
    for shard in opened(job):
        for row in range(shard.rows):
            try:
                prompt = shard.prompt(row)
            except RowRejected as problem:
                found.append(str(problem))
            else:
                assert isinstance(prompt, ChatPrompt)
                found.append(tuple(dict(message) for message in prompt.messages))
    return found


def text_or_error(job: JobSpec) -> list[str]:
    """Of each row, its text prompt, or `! ` and why it has none."""
    found = []
    for shard in opened(job):
        for row in range(shard.rows):
            try:
                prompt = shard.prompt(row)
            except RowRejected as problem:
                found.append(f"! {problem}")
            else:
                assert isinstance(prompt, TextPrompt)
                found.append(prompt.text)
    return found


def answered(rows: int) -> list[FinishedRow]:
    """An answer to every row, the last one an error."""
    return [
        FinishedRow(row, f"answer {row}", "stop", None, 3, 2, 1)
        if row < rows - 1
        else FinishedRow(row, error="bad row")
        for row in range(rows)
    ]


def part_of(
    shard: ParquetShard,
    finished: Sequence[FinishedRow] | None = None,
    manifest: bytes = b'{"run_id": "night"}',
) -> bytes:
    """The part's bytes; every row has an answer unless `finished` says which."""
    rows = answered(shard.rows) if finished is None else finished
    with shard.part(rows, manifest) as part:
        return whole(part)
