"""One worker's life as a flow run: Prefect sees worker lifetimes, not shards."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.errors import Interrupted, SpotmillError


@flow(name="worker", persist_result=False, retries=0)
def worker(
    job: str, run_id: str, date: str | None = None, worker_id: str | None = None
) -> State[dict[str, Any]]:
    """Drain shards of a planned run until none is left.

    Prefect turns SIGTERM into `TerminationSignal`, raised into the loop; the worker drains on it.
    """
    try:
        here = open_job(job, run_id, date)
        # No signals: their handlers would take Prefect's place.
        with wiring.worker_notice(signals=False) as notice:
            report = wiring.run_worker(here, notice, worker_id, interruptions=(TerminationSignal,))
    except Interrupted as reason:
        return Cancelled(message=str(reason))
    except SpotmillError as problem:
        return Failed(message=f"{type(problem).__name__}: {problem}", data=problem)
    return Completed(message=f"{report['shards_published']} shards published", data=report)
