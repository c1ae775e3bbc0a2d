"""Whether other workers live on this machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path


class Housemates:
    """Known by a file that every worker of this machine holds a shared lock on while it lives.

    The kernel lets go of a lock with its process, however that ends.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or Path(tempfile.gettempdir()) / "spotmill-workers.lock"
        # Only read, so that another user's file will do.
        self._file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def all_gone(self) -> bool:
        """True when no other worker is left. Ask it last: it gives up this worker's own place."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._file)
