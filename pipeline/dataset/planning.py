"""From a job to its plan: list the files, read their footers, check them, cut them into shards."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.core.errors import InputChanged, InputInvalid, JobInvalid, in_a_line
from pipeline.core.shard_list import ShardList
from pipeline.core.shards import InputFile, plan_shards
from pipeline.dataset.columns import Columns, check_same, copied_columns, resolve_columns
from pipeline.dataset.files import check_versions, discover
from pipeline.dataset.footers import read_footers
from pipeline.dataset.ordered_copy import copy_difference
from pipeline.dataset.plan_file import Plan
from pipeline.job import JobSpec, fingerprint
from pipeline.stores.options import StoreOptions


def plan_job(job: JobSpec, options: StoreOptions) -> Plan:
    """The dataset in its own order, whatever order the job asks for. No row is read.

    Raises `InputInvalid` or `JobInvalid` for what no run could be made of.
    """
    dataset = _Dataset(job, options)
    shards = ShardList(plan_shards(dataset.files(), job.shards.rows))
    if dataset.schema is None or not shards:
        raise InputInvalid(
            "the dataset holds no rows", where=job.input.uri, hint="check input.uri and its writer"
        )
    return Plan(shards, dataset.schema)


class _Dataset:
    """A job's files, each checked as it is come by; `schema` is the first one's."""

    def __init__(self, job: JobSpec, options: StoreOptions) -> None:
        self._job = job
        self._options = options
        self.schema: pa.Schema | None = None

    def files(self) -> Iterator[InputFile]:
        columns: Columns | None = None
        checked: pa.Schema | None = None
        listed = discover(self._job.input.uri, self._options)
        for file, schema in read_footers(listed, self._options):
            if columns is None:
                self.schema = schema
                resolve = resolve_columns if self._job.shards.order == "input" else copied_columns
                columns = resolve(self._job, schema, file.uri)
            elif schema is not checked:
                check_same(schema, columns, self.schema, file.uri)
            checked = schema
            yield file


def still_planned(job: JobSpec, plan: Plan, known_fingerprint: str, options: StoreOptions) -> bool:
    """Whether planning again would give this plan again, as far as a listing can tell.

    `known_fingerprint` is that of the input which the run was made for. False may mean no more than
    that the dataset has files without rows, which a plan does not name. Raises `InputInvalid`.
    """
    origin = plan.origin
    return (
        input_fingerprint(plan) == known_fingerprint
        and tuple(discover(job.input.uri, options)) == origin.files
    )


def plan_problems(
    job: JobSpec, plan: Plan, fingerprint: str, options: StoreOptions
) -> Iterator[str]:
    """How a stored plan differs from the one that its own files give, in words.

    A file that changed since is passed over here: whoever reads its rows finds that out.
    """
    if input_fingerprint(plan) != fingerprint:
        yield "plan.parquet: its files are not those that the run's fingerprint was made of"
    files = ShardList.of(plan.shards).versions
    try:
        check_versions(files, options)
        read = ShardList(
            plan_shards((file for file, _ in read_footers(files, options)), job.shards.rows)
        )
    except (InputChanged, InputInvalid):
        return
    if read != plan.shards:
        yield "plan.parquet: its shards are not each row of its files once and in order"
    elif plan.copied_from is not None:
        try:
            if difference := copy_difference(job, plan, options):
                yield f"plan.parquet: {difference}"
        except (InputChanged, InputInvalid, JobInvalid) as problem:
            yield f"plan.parquet: its copy is not compared with the input: {in_a_line(problem)}"


def input_fingerprint(plan: Plan) -> str:
    """Changes when a file is added, removed or rewritten; not when the dataset is moved."""
    origin = plan.origin
    listed = sorted({(f.uri.rsplit("/", 1)[-1], f.etag, f.size) for f in origin.files})
    return fingerprint({"files": listed, "shards": origin.shards, "rows": origin.rows})
