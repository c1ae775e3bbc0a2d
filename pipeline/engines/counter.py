"""What an engine decoded, counted where a `kill -9` of its process does not reach."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

_COUNT = struct.Struct("<Q")
_SUFFIX = ".decoded"


def counter_in(directory: str) -> Callable[[int], None]:
    """Adds to a count in a new file of `directory`, named after this process; with no directory,
    counts nothing. What was added is there for other processes however this one ends."""
    if not directory:
        return lambda _tokens: None
    Path(directory).mkdir(parents=True, exist_ok=True)
    handle, _ = tempfile.mkstemp(prefix=f"{os.getpid()}-", suffix=_SUFFIX, dir=directory)
    os.ftruncate(handle, _COUNT.size)
    # Shared pages belong to the file: the kernel keeps them when the process is killed.
    count = mmap.mmap(handle, _COUNT.size)
    os.close(handle)

    def add(tokens: int) -> None:
        _COUNT.pack_into(count, 0, _COUNT.unpack_from(count)[0] + tokens)

    return add


def counted_in(directory: Path) -> Mapping[int, int]:
    """Tokens decoded, by process, of every engine that counted in `directory`."""
    counts: dict[int, int] = {}
    for file in directory.glob(f"*{_SUFFIX}"):
        pid = int(file.name.partition("-")[0])
        # An engine that was killed while it made its file has decoded nothing.
        body = file.read_bytes() or _COUNT.pack(0)
        counts[pid] = counts.get(pid, 0) + _COUNT.unpack(body)[0]
    return counts
