"""The one place where adapters are chosen: from a job at hand to things that run."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import psutil

from pipeline.at_hand import JobAtHand, checked_name, text_at
from pipeline.claims import Claimer
from pipeline.clock import SystemClock
from pipeline.core.errors import JobInvalid, RunMissing
from pipeline.core.manifest import SCHEMA_VERSION, Provenance
from pipeline.core.money import UNKNOWN_PRICE, Node, NodePrice
from pipeline.core.ports import Engine, InterruptionNotice, WorkerPool
from pipeline.dataset.allocation import take_memory_plainly
from pipeline.dataset.files import check_unchanged
from pipeline.dataset.plan_file import Plan, decode_plan, encode_plan
from pipeline.dataset.planning import input_fingerprint, plan_job
from pipeline.dataset.source import ParquetSource
from pipeline.diagnosis import installed
from pipeline.engines.limits import local_model_config, refuse_unsound
from pipeline.engines.model_files import local_model
from pipeline.engines.preload import cpu_environment
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.engines.vllm import device_at_hand, load_vllm
from pipeline.errands import Errands
from pipeline.job import JobSpec, fingerprint
from pipeline.pools.local import LocalPool
from pipeline.prices import parse_prices
from pipeline.run import cost_so_far, finish, join_run, progress_of
from pipeline.spot.cloud import cloud_notice
from pipeline.spot.node import node_from_environment
from pipeline.spot.several import SeveralNotices
from pipeline.spot.signals import SignalNotice, grace_seconds
from pipeline.stores import StoreOptions
from pipeline.supervisor import FleetSettings, Supervisor
from pipeline.worker import Worker
from pipeline.worker_settings import WorkerSettings

log = logging.getLogger("spotmill")

SCRIPTED = "scripted://"
# Beats, claims and saves that wait for a store must not keep rows from being prepared.
_BACKGROUND_THREADS = 12


def preview(here: JobAtHand) -> Plan:
    """The shards this job would be cut into. Writes nothing."""
    _price(here, node_from_environment())
    return plan_job(here.job, here.options)


def check_engine(job: JobSpec) -> None:
    """Refuse what the engine on this machine cannot do soundly. Raises `EngineRefused`."""
    if not job.model.id.startswith(SCRIPTED):
        refuse_unsound(job, device_at_hand(), local_model_config(job.model.id))


def plan(here: JobAtHand) -> Plan:
    """Make the run, or join the one that is there. Raises `RunConflict` and `InputChanged`."""
    made = preview(here)
    fingerprints = {
        "settings": here.job.settings_fingerprint(),
        "input": input_fingerprint(made),
    }
    document = {
        "schema_version": SCHEMA_VERSION,
        "run_id": here.run_id,
        "nonce": secrets.token_hex(8),
        "created_at": SystemClock().timestamp(),
        "date": here.date,
        "spotmill_version": installed("spotmill"),
        "fingerprint": fingerprint(fingerprints),
        "fingerprints": fingerprints,
        "job": here.job.model_dump(mode="json"),
    }
    join_run(here.ledger, document)
    here.ledger.create_plan(encode_plan(made))
    return planned(here)


def planned(here: JobAtHand) -> Plan:
    """The plan of a run that was made before. Raises `RunMissing`."""
    body = here.ledger.plan()
    if body is None:
        raise RunMissing(f"run {here.run_id!r} has no plan", where=here.job.output.uri)
    return decode_plan(body)


def check_inputs(here: JobAtHand, plan: Plan) -> None:
    """Raises `InputChanged` when a file that is still to be read is not the planned one."""
    published = here.ledger.published()
    check_unchanged([s for s in plan.shards if s.id not in published], here.options)


def supervise(
    here: JobAtHand, plan: Plan, pool: WorkerPool, notice: InterruptionNotice, workers: int
) -> None:
    fleet = here.job.fleet
    for name in ("deadline", "pool", "on_demand_pool"):
        if getattr(fleet, name) is not None:
            log.warning("fleet.%s is read, but nothing acts on it yet", name)
    settings = FleetSettings(
        workers=workers, lease_seconds=fleet.lease_seconds, budget_usd=here.job.cost.budget_usd
    )
    shard_ids = [shard.id for shard in plan.shards]
    Supervisor(here.ledger, shard_ids, pool, SystemClock(), notice, settings).run()


def local_pool(here: JobAtHand, workers: int) -> LocalPool:
    """Workers of this run as processes of this machine, sharing its cores."""
    arguments = [here.uri, "--run-id", here.run_id, "--date", here.date]
    return LocalPool(arguments, cpu_environment(workers) if device_at_hand() == "cpu" else {})


def close_books(here: JobAtHand, plan: Plan) -> dict[str, Any]:
    document = require_job(here)
    provenance = _provenance(here, document, engine_version="unknown")
    return finish(here.ledger, provenance, plan.shards, document["created_at"], SystemClock())


def status(here: JobAtHand) -> dict[str, Any]:
    ledger = here.ledger
    return progress_of(ledger, planned(here).shards)


def cost(here: JobAtHand) -> dict[str, Any]:
    return cost_so_far(here.ledger)


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
    plan = planned(here)
    clock = SystemClock()
    node = node_from_environment()
    settings = WorkerSettings(
        worker_id=checked_name(
            f"{socket.gethostname()}-{secrets.token_hex(4)}" if worker_id is None else worker_id
        ),
        output_uri=here.job.output.uri,
        chunk_rows=job.chunks.rows,
        chunk_seconds=job.chunks.seconds,
        lease_seconds=job.fleet.lease_seconds,
        node=node,
        price=_price(here, node),
        interruptions=interruptions,
    )
    source = ParquetSource(job, plan.schema, here.options)
    with _background() as executor:
        report = Worker(
            settings,
            lambda engine: _provenance(here, document, engine.version),
            here.ledger,
            Claimer(
                plan.shards, here.ledger, source, clock, settings.worker_id, settings.lease_seconds
            ),
            load_engine or engine_loader(job, here.options),
            clock,
            notice,
            Errands(executor),
            # All that came before, imports and the plan included, is this worker's boot.
            boot_seconds=time.time() - psutil.Process().create_time(),
        ).run()
    return {
        "run_id": here.run_id,
        "worker_id": report.worker_id,
        "shards_published": report.shards_published,
        "rows": report.rows,
        "decoded_tokens": report.decoded,
    }


@contextmanager
def _background() -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(_BACKGROUND_THREADS)
    try:
        yield executor
    finally:
        # A machine that goes does not wait for a store that may answer in a minute.
        executor.shutdown(wait=False, cancel_futures=True)


def engine_loader(job: JobSpec, options: StoreOptions) -> Callable[[bool], Engine]:
    """What loads the job's engine on this machine; told whether in a process of its own."""
    if job.model.id.startswith(SCRIPTED):
        settings = _scripted_settings(job.model.id)
        return lambda own_process: ScriptedEngine(settings, time.sleep, own_process)

    def load(own_process: bool) -> Engine:
        model = local_model(job.model, options)
        return load_vllm(model, device_at_hand(), own_process=own_process)

    return load


def _scripted_settings(model: str) -> ScriptedSettings:
    kinds: dict[str, type[int] | type[float] | type[str]] = {
        "window": int,
        "max_model_len": int,
        "tokens": int,
        "step_seconds": float,
        "hang_seconds": float,
        "counter": str,
    }
    query = parse_qsl(model.removeprefix(SCRIPTED).lstrip("?"))
    try:
        return ScriptedSettings(**{key: kinds[key](value) for key, value in query})  # type: ignore[arg-type]
    except (KeyError, ValueError) as problem:
        raise JobInvalid(
            f"the scripted engine knows no {problem}",
            where="model.id",
            hint=f"settings are {', '.join(kinds)}",
        ) from problem


def _provenance(here: JobAtHand, document: dict[str, Any], engine_version: str) -> Provenance:
    job = job_of_run(here, document)
    name, _, number = engine_version.partition(" ")
    return Provenance(
        run_id=here.run_id,
        job_fingerprint=document["fingerprint"],
        model={
            "id": job.model.id,
            "revision": job.model.revision,
            "quantization": job.model.quantization,
            "speculative": job.model.speculative.model_dump(exclude_none=True),
            "engine": name,
            "engine_version": number,
        },
        tags=job.all_tags(),
    )


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


def _price(here: JobAtHand, node: Node) -> NodePrice:
    book = here.job.cost.prices
    if book is None:
        return UNKNOWN_PRICE
    return parse_prices(text_at(book, "the price book", here.options), book).price_of(node)


def require_job(here: JobAtHand) -> dict[str, Any]:
    """The run's `job.json`. Raises `RunMissing`."""
    document = here.ledger.job()
    if document is None:
        raise RunMissing(f"there is no run {here.run_id!r}", where=here.job.output.uri)
    return document
