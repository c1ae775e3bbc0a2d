"""Workers as Prefect flow runs of a deployment, on whatever its work pool starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.states import Cancelling

log = logging.getLogger("spotmill.pool")

_PROBLEMS = {StateType.FAILED, StateType.CRASHED}


class DeploymentPool:
    """Implements `WorkerPool`. Prefect's word on a run is taken for starting replacements only:
    a run it calls crashed may live, and leases keep it from doing harm."""

    def __init__(self, deployment: str, parameters: Mapping[str, Any], key: str) -> None:
        self._deployment = deployment
        self._parameters = dict(parameters)
        self._key = key
        self._started = 0
        self._live: dict[UUID, str] = {}

    def start(self) -> str:
        self._started += 1
        started = run_deployment(
            self._deployment,
            parameters=self._parameters,
            timeout=0,
            # A supervisor that asks twice because an answer was lost still gets one worker.
            idempotency_key=f"{self._key}-{self._started}",
        )
        # Called from a synchronous flow, it answers; only in a coroutine is there one to await.
        run = cast("FlowRun", started)
        self._live[run.id] = run.name
        return f"flow run {run.name}"

    def ended(self) -> Mapping[str, str | None]:
        try:
            states = self._states()
        except httpx.HTTPError as problem:
            # Workers need no Prefect to go on; what became of them is asked again at the next tick.
            log.warning("Prefect does not answer: %s", problem)
            return {}
        over = {run: s for run, s in states.items() if s is not None and s.is_final()}
        names = {f"flow run {self._live.pop(run)}": state for run, state in over.items()}
        return {
            name: (state.message or state.name) if state.type in _PROBLEMS else None
            for name, state in names.items()
        }

    def running(self) -> int:
        return len(self._live)

    def stop(self) -> None:
        """Asks Prefect to cancel what runs: it sends SIGTERM, and workers drain."""
        with get_client(sync_client=True) as client:
            for run, state in self._states().items():
                if state is None or not state.is_final():
                    client.set_flow_run_state(run, Cancelling(), force=True)
        self._live.clear()

    def _states(self) -> dict[UUID, State | None]:
        with get_client(sync_client=True) as client:
            return {run: client.read_flow_run(run).state for run in self._live}
