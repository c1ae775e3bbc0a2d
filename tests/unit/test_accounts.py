"""What books are made of is read many objects at a time, and in the order that they need."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pipeline.accounts import accounts_of
from pipeline.core import layout
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.core.session import Session
from pipeline.documents import dump
from pipeline.ledger import Ledger
from pipeline.stores.memory import MemoryStore
from pipeline.stores.together import get_together
from tests.simulation.memory_rows import JsonFormat

AT_ONCE = 4
"""Divides the number of objects of every batch."""
SHARDS, WORKERS = range(148), [f"w{number:02d}" for number in range(68)]


class Crowded(MemoryStore):
    """Answers no `get` before `AT_ONCE` of them wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._crowd = threading.Barrier(AT_ONCE, timeout=20.0)

    def get(self, key: str) -> bytes | None:
        self.asked.append(key)
        self._crowd.wait()
        return super().get(key)


def crowded(shards: Sequence[int], workers: Sequence[str]) -> Crowded:
    store = Crowded()
    for shard_id in shards:
        store.put(layout.shard_manifest_key("night", shard_id), dump({"shard_id": shard_id}))
    for name in workers:
        session = Session(name, 1, "ended", "began", "beat", Node(), UNKNOWN_PRICE)
        store.put(layout.session_key("night", name), dump(session.to_json()))
    return store


def test_many_are_read_at_once_and_each_of_them_once() -> None:
    store = crowded(SHARDS, WORKERS)
    found = accounts_of(Ledger(store, "night", JsonFormat(), get_together), SHARDS)
    assert [manifest["shard_id"] for manifest in found.manifests] == list(SHARDS)
    assert [bill.worker_id for bill in found.bills] == list(found.sessions) == WORKERS
    assert len(store.asked) == len(set(store.asked)) == len(SHARDS) + len(WORKERS)
    is_session = [key.startswith(layout.sessions_prefix("night")) for key in store.asked]
    assert is_session == sorted(is_session), "beats have to be later than what they are charged"


def test_of_a_shard_that_is_not_published_there_is_no_manifest() -> None:
    ledger = Ledger(MemoryStore(), "night", JsonFormat())
    for shard_id in (0, 1, 2, 4):
        ledger.project_manifest(shard_id, dump({"shard_id": shard_id}))
    assert [m["shard_id"] for m in ledger.shard_manifests(range(5))] == [0, 1, 2, 4]
