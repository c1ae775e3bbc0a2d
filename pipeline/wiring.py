"""The one place where adapters are chosen: from a job at hand to things that run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pipeline.accounts import ReadAccounts, accounts_of
from pipeline.at_hand import JobAtHand
from pipeline.clock import SystemClock
from pipeline.core.errors import InputChanged
from pipeline.core.fleet import workers_at_once
from pipeline.core.manifest import SCHEMA_VERSION
from pipeline.core.ports import InterruptionNotice
from pipeline.core.shards import FileVersion
from pipeline.dataset.files import check_unchanged, check_versions, current_version
from pipeline.dataset.ordered_copy import plan_in_order
from pipeline.dataset.plan_file import Plan, decode_plan, encode_plan
from pipeline.dataset.planning import input_fingerprint, plan_job, still_planned
from pipeline.diagnosis import installed
from pipeline.engines.preload import cpu_environment
from pipeline.engines.vllm import device_at_hand
from pipeline.exports.writing import write_exports
from pipeline.job import fingerprint
from pipeline.job_runs import enter
from pipeline.known_run import job_of_run as job_of_run
from pipeline.known_run import planned as planned
from pipeline.known_run import require_job as require_job
from pipeline.pools.local import LocalPool
from pipeline.predicted import tell_prediction_error
from pipeline.pricing import own_book
from pipeline.run import finish, join_run, progress_of
from pipeline.speculating import Speculation, provenance_of
from pipeline.spot.cloud import cloud_notice
from pipeline.spot.several import SeveralNotices
from pipeline.spot.share import SHARE, node_share
from pipeline.spot.signals import SignalNotice, grace_seconds
from pipeline.stores.options import arrow_filesystem
from pipeline.supervising import supervise as supervise
from pipeline.telling import tell_closed
from pipeline.working import run_worker as run_worker


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


def check_inputs(here: JobAtHand, plan: Plan) -> None:
    """Raises `InputChanged` when a file that is still to be read is not the planned one."""
    if plan.copied_from is not None:
        check_versions(plan.copied_from.files, here.options)
    published = here.ledger.published()
    check_unchanged((s for s in plan.shards if s.id not in published), here.options)


def local_pool(here: JobAtHand, plan: Plan, workers: int) -> LocalPool:
    """Workers of this run as processes of this machine, sharing its cores and its price."""
    arguments = [here.uri, "--run-id", here.run_id, "--date", here.date]
    cores = cpu_environment(workers) if device_at_hand() == "cpu" else {}
    left = len(plan.shards) - len(here.ledger.published())
    share = node_share() / workers_at_once(workers, left)
    return LocalPool(arguments, {**cores, SHARE: str(share)})


def close_books(here: JobAtHand, plan: Plan) -> dict[str, Any]:
    document = require_job(here)
    job = job_of_run(here, document)
    asked = Speculation(job.model.speculative, job.model.speculative)
    # Of a run without a shard; any other one says what its shards say.
    provenance = provenance_of(document, job, "unknown", asked)
    accounts = _accounts(here, plan)
    made = finish(
        here.ledger, provenance, plan.shards, accounts, document["created_at"], SystemClock()
    )
    write_exports(here.ledger, accounts)
    tell_closed(here, plan.shards, accounts, made)
    tell_prediction_error(here, made)
    return made


def _accounts(here: JobAtHand, plan: Plan) -> ReadAccounts:
    return cache(lambda: accounts_of(here.ledger, [shard.id for shard in plan.shards]))


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
