"""Folders that the workers of one machine share: made once, named by content, kept while used."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import EngineFailed, JobInvalid
from pipeline.engines.download import GivenUp

log = logging.getLogger("spotmill.engine")

LIMIT = "SPOTMILL_MODEL_CACHE_GB"
_UNFINISHED = ".part"
_POLL_SECONDS = 0.2
_TELL_SECONDS = 30.0
_SPARE_BYTES = 2**30
"""Left on the disk for whatever else the machine writes."""


def cache_home() -> Path:
    """Where spotmill keeps what it can fetch again: below `XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spotmill"


def limit_bytes() -> int | None:
    """What `SPOTMILL_MODEL_CACHE_GB` allows; None without it. Raises `JobInvalid`."""
    given = os.environ.get(LIMIT)
    if not given:
        return None
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e9:
        raise JobInvalid(
            f"{given!r} is no number of gigabytes",
            where=LIMIT,
            hint="set it to what models may take of this machine's disk, such as 200, or unset it",
        )
    return round(gigabytes * 1e9)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Where nobody tells, every folder counts.
        return "unknown"


@dataclass(frozen=True, slots=True)
class Place:
    """A whole folder. It is not removed while its `lock` lives."""

    path: Path
    was_here: bool
    lock: NodeLock


@dataclass(frozen=True, slots=True)
class NodeCache:
    """Folders below `home`. What was used longest ago goes when they take more than `limit` bytes
    together, or when the disk is full; never what a living process has.

    Files are not waited for to be on the disk, which takes longer than to fetch them: what was made
    before the machine's last `boot` may be holes, and is made again.
    """

    home: Path
    limit: int | None = None
    free_bytes: Callable[[Path], int] = field(default=lambda home: shutil.disk_usage(home).free)
    boot: str = field(default_factory=_boot)

    def has(self, content: str) -> bool:
        if not (self.home / content).is_dir():
            return False
        lock = NodeLock(self.home / f"{content}.lock")
        try:
            return lock.note == self.boot
        finally:
            lock.release()

    def place(
        self,
        content: str,
        size: int,
        make: Callable[[Path], None],
        given_up: Callable[[], bool] = lambda: False,
    ) -> Place:
        """The folder of this content, which `make` fills unless it is here already.

        Of all processes of this machine one makes it, the others wait. `make` may find what an
        earlier call of it, that was cut off, had left. Raises what `make` raises, `GivenUp` where
        it waits in vain, and `EngineFailed` when the disk has no room for `size` bytes.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / content
        lock = NodeLock(self.home / f"{content}.lock")
        made = False
        try:
            while True:
                lock.share(given_up)
                if path.is_dir() and lock.note == self.boot:
                    os.utime(path)
                    return Place(path, not made, lock)
                if not lock.own_now():
                    # Another looks too, or has made it meanwhile, and shares it while it lives.
                    lock.pause(given_up)
                    continue
                if lock.note != self.boot:
                    for before_boot in (path, _unfinished(path)):
                        shutil.rmtree(before_boot, ignore_errors=True)
                    lock.note = self.boot
                if not path.is_dir():
                    self._make(path, size, make)
                    made = True
        except BaseException:
            lock.release()
            raise

    def _make(self, path: Path, size: int, make: Callable[[Path], None]) -> None:
        unfinished = _unfinished(path)
        unfinished.mkdir(exist_ok=True)
        self._make_room(unfinished, size - _size(unfinished))
        make(unfinished)
        unfinished.rename(path)

    def _make_room(self, unfinished: Path, needed: int) -> None:
        others = [f for f in self.home.iterdir() if f.is_dir() and f != unfinished]
        others.sort(key=lambda folder: folder.stat().st_mtime)
        sizes = {folder: _size(folder) for folder in others}
        kept = sum(sizes.values())
        while others and self._lacks(needed, kept):
            oldest = others.pop(0)
            if self._evicted(oldest):
                kept -= sizes[oldest]
        if self.limit is not None and kept + needed > self.limit:
            log.warning("models take more than %s allows: all of them are in use", LIMIT)
        free = self.free_bytes(self.home)
        if free < needed:
            raise EngineFailed(
                f"this disk has no room for the model: {free / 1e9:.1f} GB are free, and "
                f"{needed / 1e9:.1f} GB are needed",
                where=str(self.home),
                hint="give the machine a larger disk, or set XDG_CACHE_HOME to a folder on one",
            )

    def _lacks(self, needed: int, kept: int) -> bool:
        if self.free_bytes(self.home) < needed + _SPARE_BYTES:
            return True
        return self.limit is not None and kept + needed > self.limit

    def _evicted(self, folder: Path) -> bool:
        lock = NodeLock(self.home / f"{folder.name.removesuffix(_UNFINISHED)}.lock")
        if not lock.own_at_once():
            return False
        try:
            log.info("removing %s, which was not used for longest, to make room", folder)
            # Out of the way first: half a folder must never be found under its whole name.
            doomed = folder.with_name(folder.name.removesuffix(_UNFINISHED) + _UNFINISHED)
            if doomed != folder:
                shutil.rmtree(doomed, ignore_errors=True)
                folder.rename(doomed)
            shutil.rmtree(doomed)
        finally:
            lock.release()
        return True


class NodeLock:
    """A lock between processes of this machine, which goes with the process that has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._paused = 0.0

    @property
    def note(self) -> str:
        """What was last noted here, by whoever had it alone."""
        assert self._file is not None  # noqa: S101 - released, it is no lock any more
        return os.pread(self._file, 100, 0).decode(errors="replace")

    @note.setter
    def note(self, text: str) -> None:
        assert self._file is not None  # noqa: S101 - as above
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)

    def share(self, given_up: Callable[[], bool]) -> None:
        """Wait until nobody has it alone. Others may share it, too."""
        while not self._taken(fcntl.LOCK_SH):
            self.pause(given_up)

    def own_now(self) -> bool:
        """Have it alone; False when others have it, and then one has no share of it either."""
        assert self._file is not None  # noqa: S101 - released, it is no lock any more
        # Where the kernel keeps a share whose holder asks for the whole (NFS, gVisor), two who
        # share would refuse each other for ever.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return self._taken(fcntl.LOCK_EX)

    def pause(self, given_up: Callable[[], bool]) -> None:
        """Before one asks again; not equally long for all, so that one of them is first."""
        if given_up():
            raise GivenUp
        # Not a blocking call, which would hold a signal's handler up.
        seconds = _POLL_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        time.sleep(seconds)
        self._paused += seconds
        if self._paused >= _TELL_SECONDS:
            self._paused = 0.0
            log.info("waiting for another worker of this machine to have %s", self._path.stem)

    def own_at_once(self) -> bool:
        if self._taken(fcntl.LOCK_EX):
            return True
        self.release()
        return False

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _taken(self, kind: int) -> bool:
        assert self._file is not None  # noqa: S101 - released, it is no lock any more
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as problem:
            raise EngineFailed(
                "files cannot be locked here",
                where=str(self._path),
                why=str(problem),
                hint="set XDG_CACHE_HOME to a folder on a disk of this machine",
            ) from problem
        return True


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + _UNFINISHED)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
