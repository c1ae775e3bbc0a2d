"""One worker id, and the sessions of all processes that were started under it."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.beginning import begin_session
from pipeline.core.lives import given_to, id_of_life, life_of, newest_lives
from pipeline.core.session import Session
from pipeline.ledger import Ledger
from pipeline.stores.faults import NO_FAULT, Call, Effect, Fault, FaultyStore
from pipeline.stores.memory import MemoryStore
from pipeline.stores.retry import RetryingStore
from tests.simulation.fakes import VirtualClock
from tests.simulation.memory_rows import JsonFormat
from tests.unit.strategies import bounded

ids = st.text("abw.-0129", min_size=1, max_size=8)
lives = st.integers(1, 30)


def begun(ledger: Ledger, given_id: str = "w") -> Session:
    return begin_session(
        ledger,
        VirtualClock(),
        given_id,
        boot_seconds=1.5,
        lease_seconds=8.0,
    ).session


def ledger_over(store: MemoryStore | RetryingStore) -> Ledger:
    return Ledger(store, "night", JsonFormat())


@bounded
@given(ids, lives)
def test_a_life_is_known_by_the_id_it_was_given(given_id: str, life: int) -> None:
    name = id_of_life(given_id, life)
    assert life_of(name, given_id) == life
    assert given_to(name, {given_id}) == given_id
    assert life_of(f"{name}x", given_id) == 0
    assert life_of(name, f"{given_id}x") == 0


@bounded
@given(st.dictionaries(ids, st.sets(lives, min_size=1), max_size=3), st.randoms())
def test_the_newest_life_counts_in_whatever_order_they_are_found(
    known: dict[str, set[int]], dice: st.DataObject
) -> None:
    given = {name: numbers for name, numbers in known.items() if "." not in name}
    found = [id_of_life(name, life) for name, numbers in given.items() for life in numbers]
    dice.shuffle(found)  # type: ignore[attr-defined]
    expected = {name: id_of_life(name, max(numbers)) for name, numbers in given.items()}
    assert newest_lives(found, given) == expected


def test_what_nobody_was_given_is_itself() -> None:
    assert newest_lives(["host.1", "host.2"], {"w"}) == {"host.1": "host.1", "host.2": "host.2"}


def test_every_process_has_a_session_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    ledger = ledger_over(MemoryStore())
    first = begun(ledger)
    assert caplog.records == []
    with caplog.at_level(logging.WARNING, "spotmill.worker"):
        others = [begun(ledger), begun(ledger), begun(ledger, "w.2")]
    assert [s.worker_id for s in (first, *others)] == ["w", "w.2", "w.3", "w.2.2"]
    assert "goes on as worker w.3" in caplog.text
    assert ledger.sessions.all() == {s.worker_id: s for s in (first, *others)}
    assert len({s.nonce for s in (first, *others)}) == 4


def test_a_first_beat_whose_answer_was_lost_is_still_its_own() -> None:
    memory = MemoryStore()
    lost = iter([Fault(Effect.LOST)])

    def fault(_: Call) -> Fault:
        return next(lost, NO_FAULT)

    store = RetryingStore(FaultyStore(memory, fault, lambda _: None))
    assert begun(ledger_over(store)).worker_id == "w"
    assert ledger_over(memory).sessions.worker_ids() == ["w"]
