"""Which earlier runs a job's cost is compared with."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged
from pipeline.cost_watching import earlier_runs
from pipeline.stores.memory import MemoryStore


def put_run(
    store: MemoryStore, run_id: str, job_name: str, usd: str | None, finished_at: str | None
) -> None:
    job = {"run_id": run_id, "job": {"name": job_name}}
    store.put(layout.job_key(run_id), json.dumps(job).encode())
    if finished_at is None:
        return
    row: dict[str, Any] = {
        "node": {"zone": "z"},
        "seconds": {"useful": 10.0},
        "price_per_hour": None,
        "on_demand_price_per_hour": None,
        "price_source": "unknown",
        "cost": usd,
        "decoded": 1_000,
    }
    manifest = {"finished_at": finished_at, "workers": [row], "tokens": {"input": 5, "output": 9}}
    store.put(layout.run_manifest_key(run_id), json.dumps(manifest).encode())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def costs(store: MemoryStore, run_id: str = "night-now") -> list[Decimal | None]:
    return [usage.usd for usage in earlier_runs(store, "night", run_id)]


def test_complete_runs_of_the_same_name_count_the_oldest_first(store: MemoryStore) -> None:
    put_run(store, "night-2", "night", "2", "2026-11-18")
    put_run(store, "night-1", "night", "1", "2026-11-19")
    put_run(store, "night-incomplete", "night", None, None)
    put_run(store, "night-now", "night", "7", "2026-11-20")
    put_run(store, "night-shift-1", "night-shift", "9", "2026-11-19")
    put_run(store, "day-1", "day", "8", "2026-11-19")
    assert costs(store) == [Decimal(2), Decimal(1)]


def test_the_latest_ten_are_enough(store: MemoryStore) -> None:
    for day in range(10, 25):
        put_run(store, f"night-{day}", "night", str(day), f"2026-11-{day}")
    assert costs(store) == [Decimal(day) for day in range(15, 25)]


def test_an_unknown_cost_stays_unknown(store: MemoryStore) -> None:
    put_run(store, "night-1", "night", None, "2026-11-19")
    [usage] = earlier_runs(store, "night", "night-now")
    assert usage.usd is None
    assert not usage.is_telling


def test_a_manifest_that_is_torn_is_said_to_be(store: MemoryStore) -> None:
    put_run(store, "night-1", "night", "1", "2026-11-19")
    store.put(layout.run_manifest_key("night-1"), b"{")
    with pytest.raises(ObjectDamaged, match="not what spotmill writes there"):
        earlier_runs(store, "night", "night-now")
