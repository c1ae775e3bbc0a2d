"""Object stores: the five verbs of `core.ports.ObjectStore` over files, memory and S3."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.stores.local import LocalStore
from pipeline.stores.memory import MemoryStore
from pipeline.stores.options import StoreOptions
from pipeline.stores.retry import RetryingStore
from pipeline.stores.uri import locate

if TYPE_CHECKING:
    from pipeline.core.ports import ObjectStore

__all__ = ["StoreOptions", "open_store"]

_in_memory: dict[str, MemoryStore] = {}
_lock = threading.Lock()


def open_store(uri: str, options: StoreOptions) -> ObjectStore:
    """The store at a path, `file://`, `s3://` or `memory://` URI. Asks it nothing yet.

    The same `memory://` URI is the same store throughout a process. Raises `JobInvalid`.
    """
    location = locate(uri)
    if location.scheme == "memory":
        with _lock:
            return _in_memory.setdefault(location.path, MemoryStore())
    if location.scheme == "file":
        return RetryingStore(LocalStore(Path(location.path)))
    from pipeline.stores.s3 import S3Store

    return RetryingStore(S3Store(location.path, options))
