"""Processor time inside chosen methods, on whichever thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class Spent:
    """Adds up what methods take from when they are named. One inside another is counted once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._here = threading.local()
        self._lock = threading.Lock()

    def on(self, owner: type, method: str) -> None:
        """Count what `owner.method` takes from now on."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            if getattr(self._here, "counting", False):
                return inner(*arguments, **named)
            self._here.counting = True
            began = time.thread_time()
            try:
                return inner(*arguments, **named)
            finally:
                took = time.thread_time() - began
                self._here.counting = False
                with self._lock:
                    self.seconds += took

        setattr(owner, method, timed)
