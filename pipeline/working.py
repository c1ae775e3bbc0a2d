"""One worker of a job at hand: its session first, then all that it works with."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from pipeline.allowance import AllowanceNotice
from pipeline.at_hand import JobAtHand, checked_name
from pipeline.beats import Beats
from pipeline.beginning import Begun, begin_session
from pipeline.claims import Claimer
from pipeline.clock import SystemClock, seconds_alive
from pipeline.core.ports import Engine, InterruptionNotice
from pipeline.dataset.allocation import take_memory_plainly
from pipeline.dataset.source import ParquetSource
from pipeline.engine_loading import check_engine, engine_loader
from pipeline.errands import Errands
from pipeline.known_run import job_of_run, planned, require_job
from pipeline.patience import Patience
from pipeline.prices import PriceWatch
from pipeline.pricing import quotes_of
from pipeline.speculating import provenance_of, speculation_of, watching_of
from pipeline.spot.node import node_at_hand
from pipeline.spot.several import SeveralNotices
from pipeline.spot.share import node_share
from pipeline.telling import telling_worker
from pipeline.worker import Worker
from pipeline.worker_settings import WorkerSettings

# Beats, claims and saves that wait for a store must not keep rows from being prepared.
_BACKGROUND_THREADS = 12


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
    clock = SystemClock()
    # Before anything that may take a while, or fail: what is paid for is in the books.
    begun = _begun(here, clock, worker_id)
    lease_seconds = begun.session.lease_seconds
    with (
        ExitStack() as ends,
        _background() as executor,
        telling_worker(here, begun.session.worker_id) as told,
    ):
        errands = Errands(executor)
        allowance = AllowanceNotice(here.ledger, clock, lease_seconds)
        beats = Beats(
            *(begun, here.ledger, errands, clock, Patience(clock)), told=told, look=allowance.look
        )
        with beats.stood_in_for(), beats.ended_by(interruptions):
            node, share = node_at_hand(), node_share()
            prices = ends.enter_context(closing(PriceWatch(quotes_of(here, node, share)).start()))
            # Before the rest, so that whatever fails then has its price.
            beats.tell_price(node, share, prices.first())
            job = job_of_run(here, document)
            check_engine(job)
            speculation = speculation_of(here, job)
            model = job.model.model_copy(update={"speculative": speculation.used})
            job = job.model_copy(update={"model": model})
            plan = planned(here)
            source = ParquetSource(job, plan.schema, here.options)
            loader = engine_loader(job, here.options)
            settings = WorkerSettings(
                worker_id=beats.worker_id,
                output_uri=here.job.output.uri,
                chunk_rows=job.chunks.rows,
                chunk_seconds=job.chunks.seconds,
                lease_seconds=lease_seconds,
                node=node,
                interruptions=interruptions,
            )
            worker = Worker(
                settings,
                lambda engine: provenance_of(document, job, engine.version, speculation),
                here.ledger,
                Claimer(
                    *(plan.shards, here.ledger, source, clock),
                    *(settings.worker_id, settings.lease_seconds),
                ),
                load_engine or loader,
                clock,
                SeveralNotices(notice, allowance),
                errands,
                beats,
                engine_start=lambda: loader.start,
                watching=watching_of(speculation, job, loader),
                quotes=prices,
            )
        report = worker.run()
    return {
        "run_id": here.run_id,
        "worker_id": report.worker_id,
        "shards_published": report.shards_published,
        "rows": report.rows,
        "decoded_tokens": report.decoded,
    }


def _begun(here: JobAtHand, clock: SystemClock, worker_id: str | None) -> Begun:
    anew = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    return begin_session(
        here.ledger,
        clock,
        checked_name(anew if worker_id is None else worker_id),
        # Imports and the job are this worker's boot, too.
        boot_seconds=seconds_alive(),
        lease_seconds=here.job.fleet.lease_seconds,
    )


@contextmanager
def _background() -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(_BACKGROUND_THREADS)
    try:
        yield executor
    finally:
        # A machine that goes does not wait for a store that may answer in a minute.
        executor.shutdown(wait=False, cancel_futures=True)
