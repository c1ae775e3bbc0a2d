"""What child processes write to stderr, passed on and remembered."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_REMEMBERED_BYTES = 1 << 18
_SILENT_SECONDS = 0.3
_PATIENCE_SECONDS = 2.0


class Overheard:
    """Remembers the last of what processes started while `listening` say, for as long as they
    live. This process's own words in that time are among it."""

    def __init__(self) -> None:
        self._said = bytearray()
        self._bytes = 0
        self._over = threading.Event()

    def text(self) -> str:
        """All of it, once they are silent: an instant, or two seconds at the most."""
        before = time.monotonic()
        while time.monotonic() - before < _PATIENCE_SECONDS:
            known = self._bytes
            # Over it may never be: whatever else was started meanwhile holds the pipe as well.
            if self._over.wait(_SILENT_SECONDS) or self._bytes == known:
                break
        return bytes(self._said).decode("utf-8", "replace")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Children inherit the file, not Python's stream, so it is the file that is exchanged."""
        stderr = os.dup(2)
        hears, speaks = os.pipe()
        os.dup2(speaks, 2)
        os.close(speaks)
        threading.Thread(
            target=self._pass_on, args=(hears, os.dup(stderr)), name="spotmill-stderr", daemon=True
        ).start()
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

    def _pass_on(self, hears: int, stderr: int) -> None:
        while said := os.read(hears, 1 << 16):
            self._said += said
            self._bytes += len(said)
            del self._said[:-_REMEMBERED_BYTES]
            # Whoever listened may be gone; the children must be able to speak all the same.
            with suppress(OSError):
                os.write(stderr, said)
        self._over.set()
        os.close(hears)
        os.close(stderr)
