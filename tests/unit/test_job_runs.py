"""Which runs are a job's, and which of them count."""

from __future__ import annotations

import json
import logging

import pytest

from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged
from pipeline.job_runs import JobRuns, enter
from pipeline.stores.memory import MemoryStore


def made(store: MemoryStore, run_id: str, day: str, job_name: str = "night") -> None:
    created_at = f"2026-11-{day}T01:00:00.000Z"
    enter(store, job_name, run_id, created_at)
    document = {
        "run_id": run_id,
        "created_at": created_at,
        "date": f"2026-11-{day}",
        "fingerprint": "f",
        "fingerprints": {},
        "job": {"name": job_name},
    }
    store.put(layout.job_key(run_id), json.dumps(document).encode())


def closed(store: MemoryStore, run_id: str, day: str) -> None:
    made(store, run_id, day)
    manifest = {
        "run_id": run_id,
        "finished_at": f"2026-11-{day}T09:00:00.000Z",
        "shards": 1,
        "workers": [],
        "tokens": {"input": 5, "output": 9},
        "cost": {},
    }
    store.put(layout.run_manifest_key(run_id), json.dumps(manifest).encode())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def complete(store: MemoryStore, **limits: str) -> list[str]:
    return [run.run_id for run in JobRuns(store, "night").complete(**limits)]


def latest(store: MemoryStore) -> str | None:
    found = JobRuns(store, "night").latest()
    return None if found is None else str(found["run_id"])


def test_whatever_a_run_is_named_its_job_knows_it(store: MemoryStore) -> None:
    closed(store, "night-1", "18")
    closed(store, "by-hand", "19")
    made(store, "another", "20", job_name="night-shift")
    assert complete(store) == ["by-hand", "night-1"]
    assert latest(store) == "by-hand"


def test_a_run_that_is_not_finished_is_the_latest_and_not_complete(store: MemoryStore) -> None:
    closed(store, "one", "18")
    made(store, "two", "19")
    assert complete(store) == ["one"]
    assert latest(store) == "two"


def test_an_entry_without_a_run_is_passed_over(store: MemoryStore) -> None:
    closed(store, "one", "18")
    enter(store, "night", "never-made", "2026-11-19T01:00:00.000Z")
    assert complete(store) == ["one"]
    assert latest(store) == "one"


def test_a_run_that_was_entered_twice_counts_once(store: MemoryStore) -> None:
    closed(store, "one", "18")
    enter(store, "night", "one", "2026-11-18T01:00:00.007Z")
    assert complete(store) == ["one"]


def test_earlier_than_a_run_is_what_was_made_before_it(store: MemoryStore) -> None:
    for day in ("18", "19", "20", "21"):
        closed(store, f"run-{day}", day)
    assert complete(store, before="2026-11-20T01:00:00.000Z") == ["run-19", "run-18"]
    assert complete(store, but="run-20") == ["run-21", "run-19", "run-18"]


def test_no_run_of_the_job_is_none(store: MemoryStore) -> None:
    made(store, "another", "20", job_name="day")
    assert complete(store) == []
    assert latest(store) is None


def test_one_that_is_torn_is_passed_over_and_told_of(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    closed(store, "one", "18")
    closed(store, "two", "19")
    store.put(layout.run_manifest_key("two"), b"{")
    with caplog.at_level(logging.WARNING, logger="spotmill"):
        assert complete(store) == ["one"]
    assert "run two" in caplog.text


def test_going_on_with_a_torn_run_is_refused(store: MemoryStore) -> None:
    closed(store, "one", "18")
    made(store, "two", "19")
    store.put(layout.job_key("two"), b"{}")
    with pytest.raises(ObjectDamaged, match="not what spotmill writes there"):
        latest(store)


def test_no_more_is_read_than_is_asked_for(store: MemoryStore) -> None:
    for number in range(300):
        made(store, f"run-{number:03}", f"{number % 28 + 1:02}")
    asked: list[str] = []

    class Counting(MemoryStore):
        def get(self, key: str) -> bytes | None:
            asked.append(key)
            return store.get(key)

        def list(self, prefix: str) -> list[str]:
            return list(store.list(prefix))

    assert list(JobRuns(Counting(), "night").complete()) == []
    assert len(asked) <= 2 * 160, "some hundred of the latest, and the manifest of each"
