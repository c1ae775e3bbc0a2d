"""The one place where adapters are chosen: from a job at hand to things that run."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil

from pipeline.at_hand import JobAtHand, checked_name
from pipeline.claims import Claimer
from pipeline.clock import SystemClock
from pipeline.core.errors import InputChanged, RunMissing
from pipeline.core.manifest import SCHEMA_VERSION
from pipeline.core.ports import Engine, InterruptionNotice
from pipeline.core.shards import FileVersion
from pipeline.dataset.allocation import take_memory_plainly
from pipeline.dataset.files import check_unchanged, check_versions, current_version
from pipeline.dataset.ordered_copy import plan_in_order
from pipeline.dataset.plan_file import Plan, decode_plan, encode_plan
from pipeline.dataset.planning import input_fingerprint, plan_job, still_planned
from pipeline.dataset.source import ParquetSource
from pipeline.diagnosis import installed
from pipeline.engine_loading import check_engine, engine_loader
from pipeline.engines.preload import cpu_environment
from pipeline.engines.vllm import device_at_hand
from pipeline.errands import Errands
from pipeline.exports.writing import write_exports
from pipeline.job import JobSpec, fingerprint
from pipeline.job_runs import enter
from pipeline.pools.local import LocalPool
from pipeline.predicted import tell_prediction_error
from pipeline.pricing import own_book, quotes_of
from pipeline.run import finish, join_run, progress_of
from pipeline.speculating import Speculation, provenance_of, speculation_of, watching_of
from pipeline.spot.cloud import cloud_notice
from pipeline.spot.node import node_at_hand
from pipeline.spot.several import SeveralNotices
from pipeline.spot.signals import SignalNotice, grace_seconds
from pipeline.stores.options import arrow_filesystem
from pipeline.supervising import supervise as supervise
from pipeline.telling import tell_closed, telling_worker
from pipeline.worker import Worker
from pipeline.worker_settings import WorkerSettings

STARTED_ANEW = "SPOTMILL_STARTED_ANEW"
"""When this very process became another command, in seconds since 1970."""
# Beats, claims and saves that wait for a store must not keep rows from being prepared.
_BACKGROUND_THREADS = 12


def preview(here: JobAtHand) -> Plan:
    """The shards this job would be cut into. Writes nothing."""
    own_book(here)
    return plan_job(here.job, here.options)


def preview_in_order(here: JobAtHand) -> Plan:
    """The shards that a run with `order: prefix` would have. Reads every row, writes nothing."""
    shards = here.job.shards.model_copy(update={"order": "prefix"})
    job = here.job.model_copy(update={"shards": shards})

    def size_up(number: int, digest: str, body: bytes) -> FileVersion:
        return FileVersion(f"part-{number}", digest, len(body))

    return plan_in_order(job, plan_job(job, here.options), here.options, size_up)


def plan(here: JobAtHand) -> Plan:
    """Make the run, or join the one that is there. Raises `RunConflict` and `InputChanged`."""
    made = _planned_before(here) or preview(here)
    fingerprints = {
        "settings": here.job.settings_fingerprint(),
        "input": input_fingerprint(made),
    }
    created_at = SystemClock().timestamp()
    document = {
        "schema_version": SCHEMA_VERSION,
        "run_id": here.run_id,
        "nonce": secrets.token_hex(8),
        "created_at": created_at,
        "date": here.date,
        "spotmill_version": installed("spotmill"),
        "fingerprint": fingerprint(fingerprints),
        "fingerprints": fingerprints,
        "job": here.job.model_dump(mode="json"),
    }
    if here.ledger.job() is None:
        enter(here.store, here.job.name, here.run_id, created_at)
    joined = join_run(here.ledger, document)
    if joined["nonce"] != document["nonce"]:
        enter(here.store, here.job.name, here.run_id, joined["created_at"])
    if here.ledger.plan() is None:
        if here.job.shards.order == "prefix" and made.copied_from is None:
            made = _copied_in_order(here, made)
        here.ledger.create_plan(encode_plan(made))
    return planned(here)


def _copied_in_order(here: JobAtHand, dataset: Plan) -> Plan:
    output = here.job.output.uri
    # Workers read the copy as they read any input, which not every store allows.
    arrow_filesystem(output, here.options)

    def keep(number: int, digest: str, body: bytes) -> FileVersion:
        uri = f"{output.rstrip('/')}/{here.ledger.keep_ordered(number, digest, body)}"
        kept = current_version(uri, here.options)
        if kept is None or kept.size != len(body):
            raise InputChanged("a file of the ordered copy is gone again", where=uri)
        return kept

    return plan_in_order(here.job, dataset, here.options, keep)


def _planned_before(here: JobAtHand) -> Plan | None:
    """The run's own plan, if a listing shows that planning anew would give it again."""
    known, body = here.ledger.job(), here.ledger.plan()
    if known is None or body is None:
        return None
    if known["fingerprints"].get("settings") != here.job.settings_fingerprint():
        return None
    plan = decode_plan(body)
    same = still_planned(here.job, plan, known["fingerprints"].get("input"), here.options)
    return plan if same else None


def planned(here: JobAtHand) -> Plan:
    """The plan of a run that was made before. Raises `RunMissing`."""
    body = here.ledger.plan()
    if body is None:
        raise RunMissing(f"run {here.run_id!r} has no plan", where=here.job.output.uri)
    return decode_plan(body)


def check_inputs(here: JobAtHand, plan: Plan) -> None:
    """Raises `InputChanged` when a file that is still to be read is not the planned one."""
    if plan.copied_from is not None:
        check_versions(plan.copied_from.files, here.options)
    published = here.ledger.published()
    check_unchanged((s for s in plan.shards if s.id not in published), here.options)


def local_pool(here: JobAtHand, workers: int) -> LocalPool:
    """Workers of this run as processes of this machine, sharing its cores."""
    arguments = [here.uri, "--run-id", here.run_id, "--date", here.date]
    return LocalPool(arguments, cpu_environment(workers) if device_at_hand() == "cpu" else {})


def close_books(here: JobAtHand, plan: Plan) -> dict[str, Any]:
    document = require_job(here)
    job = job_of_run(here, document)
    asked = Speculation(job.model.speculative, job.model.speculative)
    # Of a run without a shard; any other one says what its shards say.
    provenance = provenance_of(document, job, "unknown", asked)
    closed = finish(here.ledger, provenance, plan.shards, document["created_at"], SystemClock())
    export_books(here, plan)
    tell_closed(here, plan.shards, closed)
    tell_prediction_error(here, closed)
    return closed


def export_books(here: JobAtHand, plan: Plan) -> None:
    """Write what is missing of a finished run's cost tables. Raises nothing for want of them."""
    write_exports(here.ledger, [shard.id for shard in plan.shards])


def status(here: JobAtHand) -> dict[str, Any]:
    ledger = here.ledger
    return progress_of(ledger, planned(here).shards)


@contextmanager
def worker_notice(signals: bool) -> Iterator[InterruptionNotice]:
    """What a worker, or a supervisor of workers on its own machine, listens to while it lives:
    its cloud and, if asked for, signals.

    Leave it as `run_worker` or `supervise` ends, exception and all: the cloud is told when a drain
    is done. Raises `JobInvalid` for settings that make no sense. Signals need the main thread.
    """
    sources: list[InterruptionNotice] = []
    if signals:
        sources.append(SignalNotice(grace_seconds()).install())
    with cloud_notice() as cloud:
        yield SeveralNotices(*sources, cloud)


def run_worker(
    here: JobAtHand,
    notice: InterruptionNotice,
    worker_id: str | None = None,
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
    load_engine: Callable[[bool], Engine] | None = None,
) -> dict[str, Any]:
    """One worker's whole life on this machine, with the job's own engine unless one is given.

    Raises as `Worker.run` does.
    """
    take_memory_plainly()
    document = require_job(here)
    job = job_of_run(here, document)
    check_engine(job)
    speculation = speculation_of(here, job)
    model = job.model.model_copy(update={"speculative": speculation.used})
    job = job.model_copy(update={"model": model})
    plan = planned(here)
    clock = SystemClock()
    node = node_at_hand()
    quotes = quotes_of(here, node)
    settings = WorkerSettings(
        worker_id=checked_name(
            f"{socket.gethostname()}-{secrets.token_hex(4)}" if worker_id is None else worker_id
        ),
        output_uri=here.job.output.uri,
        chunk_rows=job.chunks.rows,
        chunk_seconds=job.chunks.seconds,
        lease_seconds=job.fleet.lease_seconds,
        node=node,
        price=quotes.price(),
        interruptions=interruptions,
    )
    source = ParquetSource(job, plan.schema, here.options)
    loader = engine_loader(job, here.options)
    with _background() as executor, telling_worker(here, settings.worker_id) as told:
        report = Worker(
            settings,
            lambda engine: provenance_of(document, job, engine.version, speculation),
            here.ledger,
            Claimer(
                plan.shards, here.ledger, source, clock, settings.worker_id, settings.lease_seconds
            ),
            load_engine or loader,
            clock,
            notice,
            Errands(executor),
            # All that came before, imports and the plan included, is this worker's boot.
            boot_seconds=seconds_alive(),
            engine_start=lambda: loader.start,
            watching=watching_of(speculation, job, loader),
            quotes=quotes,
            told=told,
        ).run()
    return {
        "run_id": here.run_id,
        "worker_id": report.worker_id,
        "shards_published": report.shards_published,
        "rows": report.rows,
        "decoded_tokens": report.decoded,
    }


def seconds_alive() -> float:
    """Since this command was started; where it started itself anew, since then."""
    started = os.environ.get(STARTED_ANEW)
    return time.time() - (float(started) if started else psutil.Process().create_time())


@contextmanager
def _background() -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(_BACKGROUND_THREADS)
    try:
        yield executor
    finally:
        # A machine that goes does not wait for a store that may answer in a minute.
        executor.shutdown(wait=False, cancel_futures=True)


def job_of_run(here: JobAtHand, document: dict[str, Any]) -> JobSpec:
    """The run's own copy of the job, but for what may change while it runs and changes no row."""
    stored = JobSpec.model_validate(document["job"])
    today = here.job
    return stored.model_copy(
        update={
            "model": today.model,
            "chunks": today.chunks,
            "fleet": today.fleet,
            "cost": today.cost,
            "tags": today.tags,
        }
    )


def require_job(here: JobAtHand) -> dict[str, Any]:
    """The run's `job.json`. Raises `RunMissing`."""
    document = here.ledger.job()
    if document is None:
        raise RunMissing(f"there is no run {here.run_id!r}", where=here.job.output.uri)
    return document
