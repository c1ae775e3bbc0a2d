"""An object store in a directory: for one machine, or for machines that share a file system."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.core.errors import SpotmillError, StoreDenied, StoreUnavailable
from pipeline.core.ports import Body
from pipeline.stores.bodies import PIECE_BYTES
from pipeline.stores.keys import checked_key, checked_prefix

# Under `runs/`, on the same file system as every key, and away from `data/`, where any file at all
# would be taken for rows by a reader's glob.
UNFINISHED = "runs/.tmp"
_LEFTOVER_AFTER_SECONDS = 24 * 3600

_DENIED_BECAUSE = {
    errno.EACCES: "check who owns the directory and its permissions",
    errno.EPERM: "check who owns the directory and its permissions, and that it has hard links",
    errno.EROFS: "the file system is mounted read-only: choose another place",
    errno.ENOSPC: "the disk is full: free some space, then resume",
    errno.EDQUOT: "the disk quota is used up: free some space, then resume",
    errno.EFBIG: "the file is larger than this file system allows: use smaller shards",
    errno.ENAMETOOLONG: "a name is longer than this file system allows: shorten the run id",
    errno.EEXIST: "a file stands where a directory is needed: choose another place",
    errno.ENOTDIR: "a file stands where a directory is needed: choose another place",
    errno.EISDIR: "a directory stands where a file is needed: choose another place",
    errno.ELOOP: "symbolic links lead in a circle: choose another place",
    errno.ENOTSUP: "this file system has no hard links, which claims need: choose another place",
}


class LocalStore:
    """Objects are files under `root`, which is made by the first write.

    An object is on the disk, not in a cache, before `put` and `create` return. `create` has one
    winner among any number of threads, processes and machines that share the file system.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._swept = False

    def get(self, key: str) -> bytes | None:
        path = self._path(key)
        with _explained(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def put(self, key: str, body: bytes) -> None:
        path = self._path(key)
        with _explained(path), self._written(body) as finished:
            path.parent.mkdir(parents=True, exist_ok=True)
            finished.replace(path)
            _sync_directory(path.parent)

    def create(self, key: str, body: Body) -> bool:
        path = self._path(key)
        with _explained(path):
            if path.is_file():
                return False
            with self._written(body) as finished:
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(finished, path)
                except FileExistsError:
                    # NFS may lose the answer to a link that it made and refuse the repetition;
                    # the second name of our own file tells (open(2), O_EXCL).
                    if finished.stat().st_nlink != 2:
                        if path.is_dir():
                            raise IsADirectoryError(errno.EISDIR, "a directory") from None
                        return False
                _sync_directory(path.parent)
                return True

    def list(self, prefix: str) -> Sequence[str]:
        directory = checked_prefix(prefix).rpartition("/")[0]
        with _explained(self._root / directory):
            return sorted(_files(self._root, directory, prefix))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _explained(path):
            if path.is_dir():
                return
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()

    def _path(self, key: str) -> Path:
        if f"{checked_key(key)}/".startswith(f"{UNFINISHED}/"):
            raise StoreDenied(
                f"no object can be called {key!r}",
                where=str(self._root),
                why=f"`{UNFINISHED}` is where files are written before they are finished",
                hint="choose another run id",
            )
        return self._root / key

    @contextmanager
    def _written(self, body: Body) -> Iterator[Path]:
        """The body as a file on the disk, seen by nobody; gone afterwards unless it was moved."""
        unfinished = self._root / UNFINISHED
        unfinished.mkdir(parents=True, exist_ok=True)
        if not self._swept:
            _sweep(unfinished)
            self._swept = True
        path = unfinished / f"{os.getpid()}-{uuid.uuid4().hex}"
        try:
            # Not `tempfile`: its files are private to this user, and readers are other people.
            with path.open("xb") as file:
                if isinstance(body, Path):
                    with body.open("rb") as source:
                        shutil.copyfileobj(source, file, PIECE_BYTES)
                else:
                    file.write(body)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)


def _files(root: Path, directory: str, prefix: str) -> Iterator[str]:
    if directory == UNFINISHED:
        return
    try:
        with os.scandir(root / directory) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        key = f"{directory}/{entry.name}" if directory else entry.name
        if entry.is_dir(follow_symlinks=False):
            if key.startswith(prefix):
                yield from _files(root, key, prefix)
        elif key.startswith(prefix) and entry.is_file():
            yield key


def _sync_directory(directory: Path) -> None:
    """A new name survives a power cut only once its directory is on the disk too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that need none
            raise
    finally:
        os.close(descriptor)


def _sweep(unfinished: Path) -> None:
    """Remove what killed processes left long ago."""
    for path in unfinished.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_AFTER_SECONDS:
                path.unlink()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _store_error(error, path) from error


def _store_error(error: OSError, path: Path) -> SpotmillError:
    what, why = "the directory cannot be used", error.strerror or str(error)
    if error.errno in _DENIED_BECAUSE:
        hint = _DENIED_BECAUSE[error.errno]
        return StoreDenied(what, where=str(path), why=why, hint=hint)
    return StoreUnavailable(what, where=str(path), why=why, hint="check the disk or the mount")
