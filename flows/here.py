"""The supervising flow in this process, with Prefect's temporary server if none is configured."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, NoReturn

from prefect.client.base import ServerType, determine_server_type
from prefect.exceptions import TerminationSignal
from prefect.server.api.server import SubprocessASGIServer

from flows.generate import generate
from pipeline.at_hand import JobAtHand
from pipeline.core.errors import Interrupted, SpotmillError


def generate_here(here: JobAtHand, workers: int) -> dict[str, Any]:
    """The run's manifest. Raises as the flow does, and `Interrupted` on SIGTERM and SIGINT."""

    def terminate(number: int, _frame: FrameType | None) -> NoReturn:
        raise TerminationSignal(signal=number)

    # Prefect hands SIGTERM on to the handler before its own, and the default one kills at once:
    # with exit code -15, and with Prefect's temporary server left behind.
    signal.signal(signal.SIGTERM, terminate)
    _start_own_server()
    try:
        state = generate(
            here.uri, here.run_id, here.date, workers, worker_deployment=None, return_state=True
        )
    except (TerminationSignal, KeyboardInterrupt) as stop:
        name = "SIGINT" if isinstance(stop, KeyboardInterrupt) else "SIGTERM"
        raise Interrupted(f"{name} received", hint="`spotmill resume` goes on from here") from stop
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    if not isinstance(result, dict):
        raise SpotmillError(f"the flow ended as {state.name}", why=state.message or "")
    return result


def _start_own_server() -> None:
    """Deaf to Ctrl-C: without it, Prefect would ask for minutes what became of it."""
    if determine_server_type() == ServerType.EPHEMERAL:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            SubprocessASGIServer().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
