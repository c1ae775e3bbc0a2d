"""A job file that was read, and the run it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core.errors import JobInvalid, RunMissing
from pipeline.core.ports import ObjectStore
from pipeline.dataset.file_format import ParquetFormat
from pipeline.job import JobSpec
from pipeline.job_file import parse_job
from pipeline.job_runs import JobRuns
from pipeline.ledger import Ledger
from pipeline.scratch.finished_rows import SpilledRows
from pipeline.stores import StoreOptions, open_store
from pipeline.stores.together import get_together


@dataclass(frozen=True, slots=True)
class JobAtHand:
    """A job file that was read, and where its run lives."""

    uri: str
    date: str
    job: JobSpec
    run_id: str
    options: StoreOptions
    store: ObjectStore

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.run_id, ParquetFormat(), get_together, SpilledRows)

    @property
    def runs(self) -> JobRuns:
        """Every run of the job under this output, this one included."""
        return JobRuns(self.store, self.job.name, get_together)


def open_job(uri: str, run_id: str | None = None, date: str | None = None) -> JobAtHand:
    """Read a job file from a path or `s3://`. Raises `JobInvalid`, with file and line.

    A run is named after the job and the date, unless `run_id` is given. The date is `date`, else
    the one that the run began with, else today's.
    """
    dated = date is not None
    date = date or datetime.now(UTC).date().isoformat()
    job = parse_job(text_at(uri, "the job file", StoreOptions()), source=uri, date=date)
    options = StoreOptions(**job.storage_options.model_dump())
    here = JobAtHand(
        uri=uri if "://" in uri else str(Path(uri).resolve()),
        date=date,
        job=job,
        run_id=checked_name(f"{job.name}-{date}" if run_id is None else run_id),
        options=options,
        store=open_store(job.output.uri, options),
    )
    if not dated and (known := here.ledger.job()) is not None and known["date"] != date:
        # Gone on with after midnight, a run keeps the date that its URIs were made with.
        return open_job(uri, here.run_id, known["date"])
    return here


def open_latest_run(uri: str, run_id: str | None, date: str | None) -> JobAtHand:
    """The job at its named run, else at today's, else at its latest one. Raises `RunMissing`."""
    here = open_job(uri, run_id, date)
    if run_id is None and date is None and here.ledger.job() is None:
        latest = here.runs.latest()
        if latest is not None:
            here = open_job(uri, latest["run_id"], latest["date"])
    if here.ledger.job() is None:
        raise RunMissing(
            f"there is no run {here.run_id!r}",
            where=here.job.output.uri,
            hint="start it with `spotmill run`, or name another with --run-id",
        )
    return here


def text_at(uri: str, what: str, options: StoreOptions) -> str:
    """A small text file at a path or URI. Raises `JobInvalid`, which calls it `what`."""
    folder, slash, name = uri.rpartition("/")
    known = name not in ("", ".", "..")
    body = open_store(folder or slash or ".", options).get(name) if known else None
    if body is None:
        raise JobInvalid(
            f"there is no such file: {what}",
            where=uri,
            hint="give the path or URI of a YAML file, as in sample_data/job.yaml",
        )
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise JobInvalid(f"{what} is not UTF-8 text", where=uri, why=str(problem)) from problem


def checked_name(name: str) -> str:
    """`name`, which becomes part of object keys. Raises `JobInvalid` when it cannot."""
    if name in ("", ".", "..") or not all(c.isalnum() or c in "._-" for c in name):
        raise JobInvalid(
            f"{name!r} cannot name a run", hint="use letters, digits, '.', '_' and '-' alone"
        )
    return name
