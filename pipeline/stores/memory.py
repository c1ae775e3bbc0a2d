"""An object store in this process's memory: for tests and simulation."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Sequence

from pipeline.core.ports import Body
from pipeline.stores.bodies import whole
from pipeline.stores.keys import checked_key, checked_prefix


class MemoryStore:
    """Never fails; one lock makes every verb atomic between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: dict[str, bytes] = {}
        self._keys: list[str] = []  # sorted: a simulation lists far more often than it writes

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._bodies.get(checked_key(key))

    def put(self, key: str, body: bytes) -> None:
        with self._lock:
            self._write(checked_key(key), body)

    def create(self, key: str, body: Body) -> bool:
        with self._lock:
            if checked_key(key) in self._bodies:
                return False
            self._write(key, whole(body))
            return True

    def list(self, prefix: str) -> Sequence[str]:
        with self._lock:
            first = bisect_left(self._keys, checked_prefix(prefix))
            last = first
            while last < len(self._keys) and self._keys[last].startswith(prefix):
                last += 1
            return self._keys[first:last]

    def delete(self, key: str) -> None:
        with self._lock:
            if self._bodies.pop(checked_key(key), None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def _write(self, key: str, body: bytes) -> None:
        if key not in self._bodies:
            insort(self._keys, key)
        self._bodies[key] = bytes(body)
