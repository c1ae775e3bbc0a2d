"""What was spent after a run's books were closed, and is in none: told, and added to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.core.bills import SessionBill
from pipeline.core.money import MICROS_PER_SECOND, Buckets, decimal_text, dollars, sum_of
from pipeline.core.spans import charges, proved_by, together


@dataclass(frozen=True, slots=True)
class Outlived:
    """A worker whose session tells of more than its row in the closed books, by so much; None is an
    unknown price. What it had spent since its last beat before the closing is part of it."""

    worker_id: str
    micros: int
    usd: Decimal | None

    @property
    def seconds(self) -> float:
        return self.micros / MICROS_PER_SECOND

    def __str__(self) -> str:
        cost = "at an unknown price" if self.usd is None else f"{decimal_text(self.usd)} USD"
        return (
            f"worker {self.worker_id!r} tells of {self.seconds:.1f} s ({cost}) that came after the "
            "books were closed, and are in none"
        )


def outlived(run: Mapping[str, Any], bills: Iterable[SessionBill]) -> list[Outlived]:
    """By what sessions say now, `run` being the manifest of a run that is closed; also those that
    began only then. An old beat that arrived late says nothing: a life does not become shorter."""
    rows = {row["worker_id"]: row for row in run["workers"]}
    found = []
    for bill in bills:
        said = charges(rows[bill.worker_id]) if bill.worker_id in rows else []
        before = together(said)
        more = {
            price: known.total - before.get(price, Buckets()).total
            for price, known in together(proved_by((said, bill.spans))).items()
        }
        if micros := sum(more.values()):
            usd = sum_of(dollars(part, price.usd_per_hour) for price, part in more.items())
            found.append(Outlived(bill.worker_id, micros, usd))
    return found
