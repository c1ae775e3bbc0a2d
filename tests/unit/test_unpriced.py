"""What a budget makes of workers that do not know their price: for a while, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from pipeline.budget import Budget, BudgetTerms
from pipeline.core.errors import WorkersFailed
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice
from pipeline.core.session import Session

LOADING = Session(
    "w1", 1, "load", "", "", Node("i-1"), UNKNOWN_PRICE, Buckets(boot=5_000_000, load=1_000_000)
)
KNOWN = NodePrice(Decimal(3), "a market")


def budget() -> Budget:
    return Budget(BudgetTerms(Decimal(40)), {"w1": 0.0})


def look(held: Budget, session: Session, at: float) -> None:
    held.look({"w1": session}, {"w1": session}, at, at + 0.5)


def test_a_worker_that_loads_may_hear_of_its_price_for_a_minute() -> None:
    held = budget()
    for second in range(0, 59):
        look(held, replace(LOADING, beat=second), second)
    look(held, replace(LOADING, beat=60, price=KNOWN), 60)
    look(held, replace(LOADING, beat=200, price=KNOWN), 200)
    # Another that loads has a minute of its own.
    look(held, replace(LOADING, beat=201), 201)
    with pytest.raises(WorkersFailed, match="price is unknown"):
        look(held, replace(LOADING, beat=202), 262)


@pytest.mark.parametrize(
    "session",
    [
        replace(LOADING, state="work"),
        replace(LOADING, state="failed"),
        replace(LOADING, state="load", rows=3),
    ],
    ids=["works", "is over", "loads another engine"],
)
def test_one_whose_seconds_were_charged_for_nothing_has_none_to_wait_for(session: Session) -> None:
    with pytest.raises(WorkersFailed, match="price is unknown"):
        look(budget(), session, 1.0)


def test_without_a_budget_nobody_asks() -> None:
    held = Budget(BudgetTerms(None), {"w1": 0.0})
    for second in range(0, 300, 50):
        look(held, LOADING, second)
