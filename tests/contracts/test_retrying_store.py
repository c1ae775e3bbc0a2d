"""Repeating requests must never make two winners out of one, nor none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import stop_after_attempt, stop_before_delay, wait_fixed, wait_none

from pipeline.core.errors import StoreDenied, StoreUnavailable
from pipeline.core.ports import ObjectStore
from pipeline.stores import bodies
from pipeline.stores.faults import (
    LOST,
    NO_FAULT,
    REFUSED,
    TORN,
    Call,
    Fault,
    FaultyStore,
    in_turn,
    outage,
)
from pipeline.stores.memory import MemoryStore
from pipeline.stores.retry import RetryingStore, RetryPolicy

KEY = "leases/00012/000001.json"
FIVE_TIMES = RetryPolicy(stop=stop_after_attempt(5), wait=wait_none(), sleep=lambda _: None)


def retrying(inner: ObjectStore, *faults: Fault) -> RetryingStore:
    return RetryingStore(FaultyStore(inner, in_turn(faults)), FIVE_TIMES)


def test_every_verb_outlives_an_outage() -> None:
    memory = MemoryStore()
    memory.put("old", b"body")
    uses: list[Callable[[ObjectStore], object]] = [
        lambda store: store.get("old"),
        lambda store: store.put("new", b"body"),
        lambda store: store.create("newer", b"body"),
        lambda store: store.list(""),
        lambda store: store.delete("old"),
    ]
    answers = [use(RetryingStore(FaultyStore(memory, outage(0, 3)), FIVE_TIMES)) for use in uses]
    assert answers == [b"body", None, True, ["new", "newer", "old"], None]
    assert memory.list("") == ["new", "newer"]


@pytest.mark.parametrize("faults", [[LOST], [TORN, LOST], [LOST, REFUSED, LOST], [LOST, LOST]])
def test_a_create_whose_answer_was_lost_is_won(faults: list[Fault]) -> None:
    memory = MemoryStore()
    assert retrying(memory, *faults).create(KEY, b"mine") is True
    assert memory.get(KEY) == b"mine"


@pytest.mark.parametrize(
    "theirs", [None, b"", b"mine, cut", b"mine, cut short", b"mine, cut shorn"]
)
def test_a_create_from_a_file_is_settled_by_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: bytes | None
) -> None:
    monkeypatch.setattr(bodies, "PIECE_BYTES", 4)
    mine = tmp_path / "body"
    mine.write_bytes(b"mine, cut short")
    memory = MemoryStore()
    if theirs is not None:
        memory.put(KEY, theirs)
    fault = LOST if theirs is None else REFUSED
    won = theirs is None or theirs == mine.read_bytes()
    assert retrying(memory, fault).create(KEY, mine) is won


def test_settling_outlives_lost_answers_too() -> None:
    # create: lost; create: exists, get: refused; create: exists, get: answers.
    assert retrying(MemoryStore(), LOST, NO_FAULT, REFUSED).create(KEY, b"mine") is True


@pytest.mark.parametrize("fault", [LOST, REFUSED, TORN])
def test_what_another_made_is_lost_whatever_happens(fault: Fault) -> None:
    memory = MemoryStore()
    memory.put(KEY, b"theirs")
    assert retrying(memory, fault).create(KEY, b"mine") is False
    assert memory.get(KEY) == b"theirs"


def test_another_that_wins_between_two_attempts_has_won() -> None:
    memory = MemoryStore()

    def faults(call: Call) -> Fault:
        if call.ordinal == 1:
            memory.create(KEY, b"theirs")
        return REFUSED if call.ordinal == 0 else NO_FAULT

    assert RetryingStore(FaultyStore(memory, faults), FIVE_TIMES).create(KEY, b"mine") is False


def test_without_doubt_an_equal_body_is_another_winner() -> None:
    memory = MemoryStore()
    memory.put(KEY, b"the same")
    assert retrying(memory).create(KEY, b"the same") is False


def test_the_bound_is_kept_and_doubt_is_not_called_an_answer() -> None:
    memory = MemoryStore()
    store = retrying(memory, LOST, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED)
    with pytest.raises(StoreUnavailable, match="tried 5 times"):
        store.create(KEY, b"mine")
    assert memory.get(KEY) == b"mine"


def test_the_bound_can_be_seconds() -> None:
    slept: list[float] = []
    policy = RetryPolicy(stop=stop_before_delay(2.5), wait=wait_fixed(3), sleep=slept.append)
    store = RetryingStore(FaultyStore(MemoryStore(), outage(0, 100)), policy)
    with pytest.raises(StoreUnavailable, match="nothing happens"):
        store.get("key")
    assert slept == []


def test_a_refusal_is_not_repeated() -> None:
    calls: list[Call] = []

    def faults(call: Call) -> Fault:
        calls.append(call)
        raise StoreDenied("no such bucket")

    with pytest.raises(StoreDenied):
        RetryingStore(FaultyStore(MemoryStore(), faults), FIVE_TIMES).put("key", b"")
    assert len(calls) == 1


def test_a_stale_listing_misses_what_was_created_last() -> None:
    store = FaultyStore(MemoryStore(), in_turn([NO_FAULT] * 3 + [Fault(stale=2)]))
    for name in ("b", "a", "c"):
        store.create(name, b"")
    assert store.list("") == ["b"]
    assert store.list("") == ["a", "b", "c"]


def test_latency_passes_on_the_clock_handed_in() -> None:
    slept: list[float] = []
    store = FaultyStore(MemoryStore(), in_turn([Fault(seconds=7.5)]), sleep=slept.append)
    assert store.get("key") is None
    assert slept == [7.5]


def attempts_in_turns(
    memory: MemoryStore, schedule: Iterator[int], faults: list[list[Fault]]
) -> list[bool | None]:
    """Two attempts at one key on one thread each, interleaved call by call as `schedule` says."""
    import threading

    turn = threading.Condition()
    running = {0, 1}
    chosen = [next(schedule, 0)]

    def give_turn() -> None:
        chosen[0] = next(schedule, 0)
        if chosen[0] not in running:
            chosen[0] = min(running, default=0)
        turn.notify_all()

    told: list[bool | None] = [None, None]

    def attempt(number: int) -> None:
        plan = in_turn(faults[number])

        def wait_for_turn(call: Call) -> Fault:
            with turn:
                if call.ordinal > 0:
                    give_turn()
                turn.wait_for(lambda: chosen[0] == number)
            return plan(call)

        store = RetryingStore(FaultyStore(memory, wait_for_turn), FIVE_TIMES)
        try:
            told[number] = store.create(KEY, f"attempt {number}".encode())
        except StoreUnavailable:
            pass
        finally:
            with turn:
                running.discard(number)
                give_turn()

    threads = [threading.Thread(target=attempt, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not running
    return told


some_faults = st.lists(st.sampled_from([NO_FAULT, REFUSED, TORN, LOST]), max_size=8)


@settings(max_examples=200, deadline=None)
@given(faults=st.tuples(some_faults, some_faults), order=st.lists(st.integers(0, 1), max_size=12))
def test_of_two_attempts_at_most_one_is_told_that_it_won(
    faults: tuple[list[Fault], list[Fault]], order: list[int]
) -> None:
    memory = MemoryStore()
    told = attempts_in_turns(memory, iter(order), list(faults))
    stored = memory.get(KEY)
    assert told.count(True) <= 1
    for number in (0, 1):
        mine = f"attempt {number}".encode()
        if told[number] is True:
            assert stored == mine
        if told[number] is False:
            assert stored not in (None, mine)
