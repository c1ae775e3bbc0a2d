"""The folder for temporary files, and what its errors mean."""

from __future__ import annotations

import errno
import io
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.core.errors import StoreDenied

_PREFIX = "spotmill-part-"
_LEFTOVER_AFTER_SECONDS = 24 * 3600
_HINT = "free some space, or set TMPDIR to a folder on a larger disk; then resume"


@contextmanager
def explained(what: str, where: str = "") -> Iterator[None]:
    """Raises `StoreDenied` when the disk fails; `what` says what it was needed for, `where` which
    folder it is, if not the usual one."""
    try:
        yield
    except (OSError, sqlite3.Error) as problem:
        raise _refusal(what, where, problem) from problem


def unnamed_file() -> io.RawIOBase:
    """A file that vanishes with the process, however that ends."""
    # Without a buffer, which would be written, and fail once more, when the file is closed.
    return tempfile.TemporaryFile(prefix="spotmill-", buffering=0)


def write_all(file: io.RawIOBase, piece: bytes | memoryview) -> int:
    """How many bytes that were: all of them, where the system may take a part of them at a time."""
    left = memoryview(piece)
    size = left.nbytes
    while left.nbytes:
        left = left[file.write(left) or 0 :]
    return size


def named_file() -> IO[bytes]:
    """A file that vanishes when it is closed, and a day later if the process was killed."""
    _sweep(Path(tempfile.gettempdir()))
    return tempfile.NamedTemporaryFile(prefix=_PREFIX)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        # Others' files too, which may be gone by now or not ours to remove.
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_AFTER_SECONDS:
                path.unlink()


def _refusal(what: str, where: str, problem: Exception) -> StoreDenied:
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    full = full or "disk is full" in str(problem)
    said = problem.strerror if isinstance(problem, OSError) else None
    return StoreDenied(
        f"the disk for temporary files is full: {what}"
        if full
        else f"the disk for temporary files cannot be used: {what}",
        where=where or _folder(),
        why=said or str(problem),
        hint=_HINT,
    )


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # no folder at all takes a file
        return "the folder for temporary files"
