"""The finished rows of a shard: the newest in memory, and the rest, if they are many, on disk."""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields

from pipeline.core.rows import FinishedRow
from pipeline.scratch.disk import explained

_FIELDS = tuple(field.name for field in fields(FinishedRow))
_WHAT = "finished rows do not fit into memory"
_WHERE = "TMPDIR, or /var/tmp without it"
_CACHE_KIB = 1_024
_ENCODER = json.JSONEncoder(default=asdict)


class SpilledRows:
    """Implements `FinishedRows`. Any thread may call it, and rows may change while others look.

    Up to `in_memory` rows are a dict. Beyond that they go to disk, `at_once` of them at a time, and
    one bit a row stays. Going through the rows in order costs one query for `at_once` of them.
    Raises `StoreDenied` when the disk is full or cannot be used.
    """

    def __init__(self, in_memory: int = 4_096, at_once: int = 512) -> None:
        self._most = in_memory
        self._at_once = at_once
        self._lock = threading.Lock()
        self._known = bytearray()
        self._count = 0
        self._fresh: dict[int, FinishedRow] = {}
        self._ahead: dict[int, FinishedRow] = {}
        self._asked_last = -1
        self._disk: sqlite3.Connection | None = None

    def __len__(self) -> int:
        return self._count

    def __contains__(self, row: object) -> bool:
        if not isinstance(row, int) or row < 0:
            return False
        place, bit = divmod(row, 8)
        return place < len(self._known) and bool(self._known[place] >> bit & 1)

    def __iter__(self) -> Iterator[int]:
        return (row for row in range(8 * len(self._known)) if row in self)

    def __setitem__(self, row: int, finished: FinishedRow) -> None:
        with self._lock:
            self._fresh[row] = finished
            self._ahead.pop(row, None)
            self._note(row)
            if len(self._fresh) > self._most:
                with explained(_WHAT, _WHERE):
                    self._write()

    def __getitem__(self, row: int) -> FinishedRow:
        with self._lock:
            follows, self._asked_last = row == self._asked_last + 1, row
            found = self._fresh.get(row) or self._ahead.get(row)
            if found is not None:
                return found
            if row not in self:
                raise KeyError(row)
            with explained(_WHAT, _WHERE):
                # Whoever asks for one row after the other will want those that follow.
                self._ahead = {one.row: one for one in self._read(row, follows)}
            return self._ahead[row]

    def _note(self, row: int) -> None:
        if row in self:
            return
        place, bit = divmod(row, 8)
        if place >= len(self._known):
            self._known.extend(bytes(place + 1 - len(self._known)))
        self._known[place] |= 1 << bit
        self._count += 1

    def _write(self) -> None:
        if self._disk is None:
            self._disk = _temporary_database()
            weakref.finalize(self, self._disk.close)
            self._most = self._at_once
        # In order, so that few pages of the database are touched.
        rows = ((row, _text(self._fresh[row])) for row in sorted(self._fresh))
        with self._disk:
            self._disk.execute("BEGIN")
            self._disk.executemany("INSERT OR REPLACE INTO finished VALUES (?, ?)", rows)
        self._fresh = {}

    def _read(self, row: int, more: bool) -> Iterable[FinishedRow]:
        assert self._disk is not None  # noqa: S101 - a known row is in memory or on disk
        query = "SELECT text FROM finished WHERE row >= ? ORDER BY row LIMIT ?"
        found = self._disk.execute(query, (row, self._at_once if more else 1))
        # What was finished again since is in memory, and newer.
        rows = (FinishedRow.from_json(json.loads(text)) for (text,) in found)
        return [one for one in rows if one.row not in self._fresh]


def _temporary_database() -> sqlite3.Connection:
    # Without a name it is a file that nobody sees (https://sqlite.org/inmemorydb.html, "Temporary
    # Databases"); nobody goes on from it either, so it needs no journal.
    disk = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    disk.execute("PRAGMA journal_mode = OFF")
    disk.execute("PRAGMA synchronous = OFF")
    disk.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    disk.execute("CREATE TABLE finished (row INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    return disk


def _text(row: FinishedRow) -> str:
    given = {name: value for name in _FIELDS if (value := getattr(row, name)) is not None}
    return _ENCODER.encode(given)
