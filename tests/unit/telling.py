"""Updates to tell, and listeners that remember them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.metrics.figures import Distribution, Figure, Subject, Told

TAGS = {"Project": "search", "Team": "data", "Environment": "prod", "ModelID": "tiny"}
SINCE = "2026-11-20T01:00:00.000Z"


def subject(worker_id: str | None = None) -> Subject:
    return Subject("night", worker_id, TAGS, "tiny-llama", "text_completion", SINCE)


def told(*figures: Figure, worker_id: str | None = None, gone: tuple[str, ...] = ()) -> Told:
    return Told(subject(worker_id), figures, frozenset(gone))


DURATION = Figure("gen_ai.client.inference.duration", Distribution((0.5, 2.0), (3, 0, 1), 7.25))


@dataclass(slots=True)
class Listener:
    """Remembers what it hears, or raises what `problem` says."""

    heard: list[Told] = field(default_factory=list)
    forgotten: list[tuple[str, str]] = field(default_factory=list)
    closed: bool = False
    problem: Callable[[], None] = lambda: None

    def tell(self, told: Told) -> None:
        self.problem()
        self.heard.append(told)

    def forget(self, run_id: str, worker_id: str) -> None:
        self.forgotten.append((run_id, worker_id))

    def close(self) -> None:
        self.closed = True
