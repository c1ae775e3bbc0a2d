"""Many callers, one key, at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

from pipeline.core.errors import StoreUnavailable
from pipeline.core.ports import Body, ObjectStore
from pipeline.stores.local import LocalStore


def race_to_create(store: ObjectStore, key: str, bodies: Sequence[Body]) -> list[bool | None]:
    """What each caller was told; None where the store could not say."""
    together = threading.Barrier(len(bodies))

    def run(body: Body) -> bool | None:
        together.wait(30)
        try:
            return store.create(key, body)
        except StoreUnavailable:
            return None

    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(run, bodies))


def create_in_a_process(root: Path, keys: list[str], body: bytes, together: Barrier) -> list[bool]:
    """For a process pool; lies in a module that is quick to import."""
    store = LocalStore(root)
    told = []
    for key in keys:
        together.wait(60)
        told.append(store.create(key, body))
    return told
