"""Where memory comes from, and that it goes back."""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa


def take_memory_plainly() -> None:
    """Have this process's Arrow take memory from the C library, unless its environment says where.

    What Arrow is built with keeps a heap a thread, and what it freed in each for later: a worker
    that reads in one thread and publishes in another held 80 MB more for a shard of 30 MB.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def give_memory_back() -> None:
    """Return to the system what the C library keeps of freed memory.

    Not lightly: it takes an engine's in this process as well, which comes back a page at a time.
    """
    # musl's and macOS's libraries have no such call, and need none.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
