"""Finished rows on a disk are as good as a dictionary of them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import StoreDenied
from pipeline.core.rows import FinishedRow, PositionLogprobs, TokenLogprob
from pipeline.scratch import finished_rows
from pipeline.scratch.finished_rows import SpilledRows
from tests.unit.strategies import bounded

texts = st.none() | st.text(max_size=5) | st.sampled_from(["\ud800", "a\x00b", "\U0001f600"])
logprobs = st.floats(allow_nan=False) | st.just(float("-inf"))
tokens = st.builds(TokenLogprob, st.text(max_size=3), st.integers(0, 9), logprobs)
positions = st.builds(
    PositionLogprobs,
    st.text(max_size=3),
    st.integers(0, 9),
    logprobs,
    st.lists(tokens, max_size=2).map(tuple),
)
counts = st.integers(0, 2**40)
rows = st.builds(
    FinishedRow,
    st.integers(0, 30),
    texts,
    texts,
    texts,
    counts,
    counts,
    counts,
    st.none() | st.lists(positions, max_size=2).map(tuple),
)


@bounded
@given(
    written=st.lists(rows, max_size=60),
    in_memory=st.integers(0, 20),
    at_once=st.integers(1, 8),
    data=st.data(),
)
def test_it_holds_what_a_dictionary_would(
    written: list[FinishedRow], in_memory: int, at_once: int, data: st.DataObject
) -> None:
    spilled, known = SpilledRows(in_memory, at_once), dict[int, FinishedRow]()
    for row in written:
        spilled[row.row] = known[row.row] = row
        asked = data.draw(st.integers(-1, 31))
        assert (asked in spilled) == (asked in known)
        if asked in known:
            assert spilled[asked] == known[asked]
            if asked + 1 in known:
                assert spilled[asked + 1] == known[asked + 1]
    assert len(spilled) == len(known)
    assert [spilled[row] for row in spilled] == [known[row] for row in sorted(known)]
    assert "row" not in spilled
    with pytest.raises(KeyError):
        spilled[99]


@pytest.mark.parametrize(("count", "queries"), [(100, 0), (101, 11), (1_000, 100)])
def test_few_rows_never_see_a_disk_and_many_are_read_some_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int, queries: int
) -> None:
    asked: list[str] = []
    made: list[sqlite3.Connection] = []

    def counted() -> sqlite3.Connection:
        disk = open_database()
        made.append(disk)
        disk.set_trace_callback(lambda text: asked.append(text[:6]))
        return disk

    open_database: Callable[[], sqlite3.Connection] = finished_rows._temporary_database
    monkeypatch.setattr(finished_rows, "_temporary_database", counted)
    spilled = SpilledRows(in_memory=100, at_once=10)
    for row in range(count):
        spilled[row] = FinishedRow(row, f"answer {row}", "stop")
    assert bool(made) == (count > 100)
    assert len(spilled._fresh) <= 100
    assert [spilled[row].completion for row in range(count)] == [
        f"answer {row}" for row in range(count)
    ]
    assert asked.count("SELECT") <= queries + 1
    assert len(spilled._ahead) <= 10


def test_one_thread_writes_and_another_reads() -> None:
    spilled = SpilledRows(in_memory=10, at_once=5)
    wrong: list[int] = []

    def read() -> None:
        for _ in range(20):
            wrong.extend(row for row in range(len(spilled)) if spilled[row].row != row)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for row in range(50):
        spilled[row] = FinishedRow(row, "x")
    for reader in readers:
        reader.start()
    for row in range(50, 500):
        spilled[row] = FinishedRow(row, "x")
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(spilled) == 500


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    open_database = finished_rows._temporary_database

    def small() -> sqlite3.Connection:
        disk = open_database()
        disk.execute("PRAGMA max_page_count = 8")
        return disk

    monkeypatch.setattr(finished_rows, "_temporary_database", small)
    spilled = SpilledRows(in_memory=10, at_once=10)
    with pytest.raises(StoreDenied, match="is full: finished rows") as refused:
        for row in range(1_000):
            spilled[row] = FinishedRow(row, "x" * 1_000)
    assert "TMPDIR" in refused.value.where
    assert "TMPDIR" in refused.value.hint
