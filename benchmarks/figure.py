"""What a measurement says: a figure, beside what was asked of it, or that there is none and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the unrounded value has to keep."""

    bound: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """`key` is stable, `unit` empty for a ratio. `value` is a median where there are `samples`."""

    key: str
    name: str
    value: float
    how: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    samples: int = 1
    target: Target | None = None

    @property
    def missed(self) -> bool:
        return self.target is not None and not self.target.met(self.value)

    def to_json(self) -> Json:
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Figure:
        target = document.get("target")
        return Figure(**{**document, "target": None if target is None else Target(**target)})


@dataclass(frozen=True, slots=True)
class Failure:
    """A figure, or a whole family, that could not be measured here."""

    key: str
    reason: str

    def to_json(self) -> Json:
        return asdict(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Failure:
        return Failure(**document)


Record = Figure | Failure


def record_from_json(document: Mapping[str, Any]) -> Record:
    """The inverse of both `to_json`. Raises `TypeError` for anything else."""
    return Failure.from_json(document) if "reason" in document else Figure.from_json(document)


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """One family's records of one run, and what it took."""

    family: str
    seconds: float
    records: tuple[Record, ...]

    def to_json(self) -> Json:
        return {
            "family": self.family,
            "seconds": round(self.seconds, 3),
            "records": [record.to_json() for record in self.records],
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> FamilyResult:
        records = tuple(map(record_from_json, document["records"]))
        return FamilyResult(document["family"], document["seconds"], records)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Pair by pair, in the order in which they were measured. Raises `ValueError` without pairs."""
    if not ours:
        raise ValueError("no pair was measured")
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def spread(
    key: str,
    name: str,
    values: Sequence[float],
    how: str,
    unit: str = "",
    target: Target | None = None,
) -> Figure:
    """The median of `values`, with the lowest and the highest."""
    return Figure(
        key, name, median(values), how, unit, min(values), max(values), len(values), target
    )
