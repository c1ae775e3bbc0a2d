"""Many small objects read at once: their time is the store's answering, not the bytes'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_THREADS = 16


def get_together(get: Callable[[str], bytes | None], keys: Sequence[str]) -> list[bytes | None]:
    """The objects of `keys`, in order. Raises what any `get` raises."""
    if len(keys) < 2:
        return [get(key) for key in keys]
    with ThreadPoolExecutor(min(_THREADS, len(keys))) as threads:
        return list(threads.map(get, keys))
