"""What a store keeps of sessions, in whatever order their beats arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.core.session import Session
from pipeline.documents import dump
from pipeline.session_ledger import SessionLedger
from pipeline.stores.memory import MemoryStore

RUN = "night"
FIRST = Session("w1", 0, "boot", "began", "beat", Node(), UNKNOWN_PRICE)
WORKING, LAST = replace(FIRST, beat=1, state="work"), replace(FIRST, beat=2, state="ended", rows=7)


class Counted(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.asked.append(key)
        return super().get(key)

    def list(self, prefix: str) -> Sequence[str]:
        self.asked.append(prefix)
        return super().list(prefix)


@pytest.fixture
def store() -> Counted:
    return Counted()


def read(store: MemoryStore) -> Session | None:
    """Both ways to ask, which have to agree."""
    one = SessionLedger(store, RUN).of("w1")
    assert SessionLedger(store, RUN).all() == ({} if one is None else {"w1": one})
    return one


def test_a_session_is_as_its_newest_beat_says(store: Counted) -> None:
    assert read(store) is None
    sessions = SessionLedger(store, RUN)
    assert sessions.begin(FIRST)
    assert read(store) == FIRST
    sessions.beat(WORKING)
    assert read(store) == WORKING
    sessions.end(LAST)
    assert read(store) == LAST
    assert sessions.worker_ids() == ["w1"]


def test_a_beat_that_arrives_after_the_last_one_undoes_nothing(store: Counted) -> None:
    sessions = SessionLedger(store, RUN)
    sessions.begin(FIRST)
    sessions.end(LAST)
    sessions.beat(WORKING)
    assert read(store) == LAST
    assert sessions.worker_ids() == ["w1"]


def test_whoever_looks_while_a_session_ends_sees_its_last_beat(store: Counted) -> None:
    sessions = SessionLedger(store, RUN)
    sessions.begin(FIRST)
    store.create(layout.last_beat_key(RUN, "w1"), dump(LAST.to_json()))
    assert read(store) == LAST


def test_of_sessions_that_are_over_one_read_is_enough(store: Counted) -> None:
    sessions = SessionLedger(store, RUN)
    for name in ("w1", "w2"):
        sessions.begin(replace(FIRST, worker_id=name))
        sessions.end(replace(LAST, worker_id=name))
    sessions.begin(replace(FIRST, worker_id="w3"))
    store.asked.clear()
    first = sessions.all()
    assert {name: session.over for name, session in first.items()} == {
        "w1": True,
        "w2": True,
        "w3": False,
    }
    heartbeats = [layout.session_key(RUN, name) for name in ("w1", "w2", "w3")]
    folders = [layout.sessions_prefix(RUN), layout.last_beats_prefix(RUN)]
    assert store.asked == [folders[0], *heartbeats, folders[1]]
    store.asked.clear()
    assert sessions.all() == first
    assert [sessions.of("w1"), sessions.of("w2")] == [first["w1"], first["w2"]]
    assert store.asked == [folders[0], heartbeats[2], folders[1]]


@pytest.mark.parametrize("state", [None, "done", [], {}, 1])
def test_a_session_whose_state_is_none_is_damaged(store: Counted, state: object) -> None:
    key = layout.session_key(RUN, "w1")
    store.put(key, dump({**FIRST.to_json(), "state": state}))
    for look in (lambda: SessionLedger(store, RUN).of("w1"), SessionLedger(store, RUN).all):
        with pytest.raises(ObjectDamaged, match="is no state of a session") as damage:
            look()
        assert damage.value.where == key


def test_a_worker_on_its_way_out_in_an_earlier_version_held_its_leases(store: Counted) -> None:
    store.put(layout.session_key(RUN, "w1"), dump({**FIRST.to_json(), "state": "drain"}))
    found = read(store)
    assert found is not None and found.state == "work" and not found.over
