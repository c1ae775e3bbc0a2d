"""Workers as Prefect flow runs of a deployment, on whatever its work pool starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelling, Crashed

from pipeline.core.errors import JobInvalid, PoolUnavailable
from pipeline.core.fleet import WorkerEnd

log = logging.getLogger("spotmill.run")

_PROBLEMS = {StateType.FAILED, StateType.CRASHED}
_DRAIN_SECONDS = 30.0
_POLL_SECONDS = 1.0


class DeploymentPool:
    """Implements `WorkerPool`. Prefect's word on a run is taken for starting replacements only:
    a run it calls crashed may live, and leases keep it from doing harm.

    A worker that ends as `Failed` with one of the `fatal` error types in its message stops the run.
    """

    def __init__(
        self, deployment: str, parameters: Mapping[str, Any], fatal: frozenset[str]
    ) -> None:
        self._deployment = deployment
        self._parameters = dict(parameters)
        self._fatal = fatal
        self._live: dict[str, UUID] = {}

    def start(self, worker_id: str) -> str:
        """Raises `JobInvalid` when Prefect knows of no such deployment."""
        with _answering(), _known(self._deployment):
            started = run_deployment(
                self._deployment,
                parameters=self._parameters | {"worker_id": worker_id},
                timeout=0,
                # Asked again because an answer was lost, Prefect still makes one run.
                idempotency_key=worker_id,
            )
        # Called from a synchronous flow, it answers; only in a coroutine is there one to await.
        run = cast("FlowRun", started)
        self._live[worker_id] = run.id
        return f"flow run {run.name}"

    def ended(self) -> Mapping[str, WorkerEnd]:
        over = {
            worker_id: state
            for worker_id, state in self._states().items()
            if state is not None and state.is_final()
        }
        for worker_id in over:
            del self._live[worker_id]
        return {worker_id: self._in_words(state) for worker_id, state in over.items()}

    def running(self) -> int:
        return len(self._live)

    def stop(self) -> None:
        """Asks Prefect to cancel what runs, which sends SIGTERM where something of Prefect's own
        watches over the process; on Kubernetes and ECS, often nothing does."""
        with _answering(), get_client(sync_client=True) as client:
            for worker_id, state in self._states().items():
                if state is None or not state.is_final():
                    with suppress(ObjectNotFound):
                        client.set_flow_run_state(self._live[worker_id], Cancelling())
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._live and time.monotonic() < deadline:
            self.ended()
            time.sleep(_POLL_SECONDS)
        if self._live:
            log.warning(
                "%.0f s after they were asked to stop, %d workers' flow runs are not over: %s",
                *(_DRAIN_SECONDS, len(self._live), ", ".join(sorted(self._live))),
            )

    def _in_words(self, state: State) -> WorkerEnd:
        if state.type not in _PROBLEMS:
            return WorkerEnd()
        message = state.message or state.name or "failed"
        return WorkerEnd(message, fatal=message.partition(":")[0] in self._fatal)

    def _states(self) -> dict[str, State | None]:
        with _answering(), get_client(sync_client=True) as client:
            return {name: _state_of(client, run) for name, run in self._live.items()}


def _state_of(client: SyncPrefectClient, run: UUID) -> State | None:
    try:
        return client.read_flow_run(run).state
    except ObjectNotFound:
        # Prefect will never tell what became of it. If it lives, its session says so.
        return Crashed(message="its flow run was deleted")


@contextmanager
def _known(deployment: str) -> Iterator[None]:
    try:
        yield
    except ObjectNotFound as problem:
        raise JobInvalid(
            f"Prefect has no deployment {deployment!r} to start workers with",
            why=str(problem),
            hint="`prefect deploy --all`, or name another as worker_deployment",
        ) from problem


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, PrefectException) as problem:
        raise PoolUnavailable(
            "Prefect does not answer",
            why=f"{type(problem).__name__}: {problem}",
            hint="check PREFECT_API_URL and the server; workers go on meanwhile",
        ) from problem
