"""Many files from a bucket at once, large ones in parts: as fast as the network brings them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import StoreUnavailable
from pipeline.stores.retry import RetryPolicy, retrying

log = logging.getLogger("spotmill.engine")

PART_BYTES = 16 * 2**20
_AT_ONCE = 16
_TELL_SECONDS = 10.0
_INCOMPLETE = ".incomplete"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """`name` is relative, and stays below its folder; `version` changes when the bytes do."""

    name: str
    size: int
    version: str


class Part(NamedTuple):
    file: RemoteFile
    offset: int
    size: int


Read = Callable[[Part], bytes]
"""The bytes of a part. Called from many threads; raises `StoreUnavailable` to be called again."""


class GivenUp(Exception):
    """Nobody waits for this download any more."""


def download(
    files: Sequence[RemoteFile],
    read: Read,
    folder: Path,
    policy: RetryPolicy | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> int:
    """Bring `files` below `folder`; those that are whole there are not read again. Returns the
    bytes that were read. Raises what `read` raises, at the latest when a store's patience ends,
    and `GivenUp` soon after it was.

    A file has its own name only once all of it was written.
    """
    missing = [file for file in files if not _is_whole(folder / file.name, file.size)]
    progress = _Progress(sum(file.size for file in missing))

    def wanted(part: Part) -> bytes:
        if given_up():
            raise GivenUp
        return read(part) if part.size else b""

    with _threads() as threads:
        parts = [
            threads.submit(_bring, part, target, wanted, progress, policy)
            for file in missing
            for target in [_Target(folder / file.name, file.size)]
            for part in _parts(file)
        ]
        waiting: set[Future[None]] = set(parts)
        while waiting:
            done, waiting = wait(waiting, _TELL_SECONDS, FIRST_EXCEPTION)
            for part in done:
                part.result()
            if waiting:
                log.info("fetching the model: %s", progress)
    return progress.total


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(_AT_ONCE)
    try:
        yield threads
    finally:
        # Parts on their way are waited for, since they write below a folder that may be renamed.
        threads.shutdown(wait=True, cancel_futures=True)


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _parts(file: RemoteFile) -> list[Part]:
    offsets = range(0, max(1, file.size), PART_BYTES)
    return [Part(file, at, min(PART_BYTES, file.size - at)) for at in offsets]


class _Target:
    """A file that grows from several threads, and gets its name from the last of them."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._missing = size
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished = path.with_name(path.name + _INCOMPLETE)
        self._unfinished.unlink(missing_ok=True)
        with self._unfinished.open("wb") as file:
            file.truncate(size)

    def write(self, offset: int, body: bytes) -> None:
        with self._unfinished.open("r+b", buffering=0) as file:
            view = memoryview(body)
            while view:
                written = os.pwrite(file.fileno(), view, offset)
                view, offset = view[written:], offset + written
        with self._lock:
            self._missing -= len(body)
            whole = self._missing == 0
        if whole:
            self._unfinished.rename(self._path)


def _bring(
    part: Part, target: _Target, read: Read, progress: _Progress, policy: RetryPolicy | None
) -> None:
    def attempt() -> bytes:
        body = read(part)
        if len(body) != part.size:
            raise StoreUnavailable(
                "a part of the model came cut short",
                where=part.file.name,
                why=f"{len(body)} of {part.size} bytes from {part.offset} on",
                hint="the file may have been replaced: start again",
            )
        return body

    body = retrying(f"read {part.file.name} from {part.offset}", attempt, policy)
    target.write(part.offset, body)
    progress.came(len(body))


class _Progress:
    def __init__(self, total: int) -> None:
        self.total = total
        self._came = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def came(self, size: int) -> None:
        with self._lock:
            self._came += size

    def __str__(self) -> str:
        seconds = max(1e-3, time.monotonic() - self._began)
        return (
            f"{self._came / 1e9:.2f} of {self.total / 1e9:.2f} GB in {seconds:.0f} s, "
            f"{self._came / 1e6 / seconds:.0f} MB/s"
        )
