"""From a job to its plan: list the files, read their footers, check them, cut them into shards."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.core.errors import InputChanged, InputInvalid
from pipeline.core.shards import InputFile, plan_shards
from pipeline.dataset.columns import check_same, resolve_columns
from pipeline.dataset.files import FileVersion, check_unchanged, discover, read_footers
from pipeline.dataset.plan_file import Plan
from pipeline.job import JobSpec, fingerprint
from pipeline.stores.options import StoreOptions


def plan_job(job: JobSpec, options: StoreOptions) -> Plan:
    """Raises `InputInvalid` or `JobInvalid` for what no run could be made of."""
    files: list[InputFile] = []
    first: pa.Schema | None = None
    for file, schema in read_footers(discover(job.input.uri, options), options):
        if first is None:
            first, columns = schema, resolve_columns(job, schema, file.uri)
        else:
            check_same(schema, columns, first, file.uri)
        files.append(file)
    shards = tuple(plan_shards(files, job.shards.rows))
    if first is None or not shards:
        raise InputInvalid(
            "the dataset holds no rows", where=job.input.uri, hint="check input.uri and its writer"
        )
    return Plan(shards, first)


def plan_problems(
    job: JobSpec, plan: Plan, fingerprint: str, options: StoreOptions
) -> Iterator[str]:
    """How a stored plan differs from the one that its own files give, in words.

    A file that changed since is passed over here: whoever reads its rows finds that out.
    """
    if input_fingerprint(plan) != fingerprint:
        yield "plan.parquet: its files are not those that the run's fingerprint was made of"
    files = {shard.uri: FileVersion(shard.uri, shard.etag, shard.size) for shard in plan.shards}
    try:
        check_unchanged(plan.shards, options)
        read = [file for file, _ in read_footers(list(files.values()), options)]
    except (InputChanged, InputInvalid):
        return
    if tuple(plan_shards(read, job.shards.rows)) != plan.shards:
        yield "plan.parquet: its shards are not each row of its files once and in order"


def input_fingerprint(plan: Plan) -> str:
    """Changes when a file is added, removed or rewritten; not when the dataset is moved."""
    files = {
        FileVersion(shard.uri.rsplit("/", 1)[-1], shard.etag, shard.size) for shard in plan.shards
    }
    listed = sorted((file.uri, file.etag, file.size) for file in files)
    return fingerprint({"files": listed, "shards": len(plan.shards), "rows": plan.rows})
