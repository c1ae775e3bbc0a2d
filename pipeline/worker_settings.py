"""What one worker is told about itself."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pipeline.core.lease import BEATS_IN_A_LEASE
from pipeline.core.money import Node, NodePrice
from pipeline.core.session import Session


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`began` is its session as its first beat told it. `interruptions` are exceptions that mean
    "stop soon" when they are raised into the loop. Every `price_seconds` it is looked whether an
    hour costs something else, which waits for no answer. `price` is that of its `node_share` of the
    machine."""

    began: Session
    output_uri: str
    chunk_rows: int
    chunk_seconds: float
    node: Node
    price: NodePrice
    store_patience_seconds: float = 3_600.0
    price_seconds: float = 5.0
    node_share: Fraction = Fraction(1)
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    @property
    def worker_id(self) -> str:
        return self.began.worker_id

    @property
    def lease_seconds(self) -> float:
        return self.began.lease_seconds

    @property
    def buffer_rows(self) -> int:
        """Finished rows that may be unsaved while the store is away, before the engine waits."""
        return 8 * self.chunk_rows

    @property
    def beat_seconds(self) -> float:
        return self.lease_seconds / BEATS_IN_A_LEASE
