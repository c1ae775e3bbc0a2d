"""What a listener to figures must offer."""

from __future__ import annotations

from typing import Protocol

from pipeline.metrics.figures import Told


class Sink(Protocol):
    """Called from one thread, which no run waits for. May raise anything; the next update comes
    all the same. No call takes longer than `SINK_SECONDS`, more or less."""

    def tell(self, told: Told) -> None: ...

    def forget(self, run_id: str, worker_id: str) -> None:
        """This worker will not be told of again: what was told last is true no more."""
        ...

    def close(self) -> None: ...


SINK_SECONDS = 5.0
