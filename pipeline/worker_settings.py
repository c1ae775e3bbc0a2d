"""What one worker is told about itself."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.money import Node, NodePrice


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`interruptions` are exceptions that mean "stop soon" when they are raised into the loop."""

    worker_id: str
    output_uri: str
    chunk_rows: int
    chunk_seconds: float
    lease_seconds: float
    node: Node
    price: NodePrice
    store_patience_seconds: float = 600.0
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    @property
    def beat_seconds(self) -> float:
        return self.lease_seconds / 4
