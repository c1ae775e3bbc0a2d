"""Where a file is written that is sent somewhere later: small ones in memory, others on disk."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from pipeline.core.ports import Body
from pipeline.scratch.disk import explained, named_file

_WHAT = "a part does not fit into memory"


class Sink(io.RawIOBase):
    """A file to append to: `in_memory` bytes, and on disk when there are more."""

    def __init__(self, in_memory: int, open_files: ExitStack) -> None:
        self._most = in_memory
        self._open_files = open_files
        self._file: IO[bytes] = io.BytesIO()
        self._path: Path | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        with explained(_WHAT):
            if self._path is None and self.tell() + len(piece) > self._most:
                self._move()
            return self._file.write(piece)

    def _move(self) -> None:
        on_disk = self._open_files.enter_context(named_file())
        self._file.seek(0)
        shutil.copyfileobj(self._file, on_disk)
        self._file, self._path = on_disk, Path(on_disk.name)

    def body(self) -> Body:
        """What was written; a file lasts as long as `open_files`."""
        with explained(_WHAT):
            self._file.flush()
            if self._path is not None:
                return self._path
            self._file.seek(0)
            return self._file.read()


@contextmanager
def sink(in_memory: int) -> Iterator[Sink]:
    with ExitStack() as open_files:
        yield Sink(in_memory, open_files)
