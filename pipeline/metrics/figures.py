"""What is told of a worker and of a run, the same to every listener; pure, like what it is made of.

`Decimal` money stays `Decimal` until a listener turns it into what its wire can carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from pipeline.metrics.meanings import MEANINGS, Meaning

Number: TypeAlias = int | float | Decimal


@dataclass(frozen=True, slots=True)
class Distribution:
    """`counts[i]` values lay above `bounds[i-1]` and not above `bounds[i]`; the last, above all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Figure:
    """One value of a name in `MEANINGS`; `labels` tell it from others of the same name."""

    name: str
    value: Number | Distribution
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.name]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom figures are about: a worker, or with None for one, the run. Counters count `since`, an
    ISO timestamp. `tags` are the standard ones, `model` is named without a folder."""

    run_id: str
    worker_id: str | None
    tags: Mapping[str, str]
    model: str
    operation: str
    since: str

    def labels_of(self, figure: Figure) -> dict[str, str]:
        """All that tells this figure of this subject from any other, by OpenTelemetry's names."""
        labels = {**self.tags, "spotmill.run.id": self.run_id}
        if self.worker_id is not None:
            labels["spotmill.worker.id"] = self.worker_id
        if figure.name.startswith("gen_ai."):
            labels["gen_ai.operation.name"] = self.operation
            labels["gen_ai.provider.name"] = "vllm"
            labels["gen_ai.request.model"] = self.model
        return labels | dict(figure.labels)


@dataclass(frozen=True, slots=True)
class Told:
    """One update. What is unknown is no figure of it, and never 0.

    `gone` are workers of the run that will not be heard of again.
    """

    subject: Subject
    figures: tuple[Figure, ...]
    gone: frozenset[str] = frozenset()


def known(name: str, value: Number | None, **labels: str) -> list[Figure]:
    """The figure, or none where the value is unknown."""
    return [] if value is None else [Figure(name, value, labels)]


def share(part: int, whole: int) -> float | None:
    """None where there is nothing to have a share of."""
    return part / whole if whole else None
