"""What one worker is told about itself."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.lease import BEATS_IN_A_LEASE
from pipeline.core.money import Node


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`interruptions` are exceptions that mean "stop soon" when they are raised into the loop."""

    worker_id: str
    output_uri: str
    chunk_rows: int
    chunk_seconds: float
    lease_seconds: float
    node: Node
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    @property
    def buffer_rows(self) -> int:
        """Finished rows that may be unsaved while the store is away, before the engine waits."""
        return 8 * self.chunk_rows

    @property
    def beat_seconds(self) -> float:
        return self.lease_seconds / BEATS_IN_A_LEASE
