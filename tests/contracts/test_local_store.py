"""What only a directory can get wrong."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.core.errors import StoreDenied, StoreUnavailable
from pipeline.stores.local import UNFINISHED, LocalStore
from tests.contracts.race import create_in_a_process

CALLERS = 16


def test_sixteen_processes_create_one_key_and_one_wins(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    keys = [f"leases/{number:05d}/000001.json" for number in range(20)]
    with spawn.Manager() as shared:
        together = shared.Barrier(CALLERS)
        with spawn.Pool(CALLERS) as pool:
            told = pool.starmap(
                create_in_a_process,
                [(tmp_path, keys, f"{n}".encode(), together) for n in range(CALLERS)],
                chunksize=1,
            )
            pool.close()
            pool.join()
    store = LocalStore(tmp_path)
    for number, key in enumerate(keys):
        winners = [caller for caller in range(CALLERS) if told[caller][number]]
        assert len(winners) == 1
        assert store.get(key) == f"{winners[0]}".encode()


def test_unfinished_files_are_never_seen(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    body = b"x" * 3_000_000
    strangers: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen = {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()}
            strangers.extend(seen - {"part-00000.parquet", "part-00001.parquet"})
            strangers.extend(key for key in store.list("") if not key.startswith("data/"))
            strangers.extend(store.list(f"{UNFINISHED}/"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(10):
            store.put("data/run=a/part-00000.parquet", body)
            store.create("data/run=a/part-00001.parquet", body)
            store.delete("data/run=a/part-00001.parquet")
    finally:
        done.set()
        watcher.join()
    assert not strangers
    assert not list((tmp_path / UNFINISHED).iterdir())


def test_a_refused_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.put("key", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreDenied, match="No space left") as refused:
        store.put("key", b"new")
    assert "disk is full" in refused.value.hint
    monkeypatch.undo()
    assert store.get("key") == b"old"
    assert not list((tmp_path / UNFINISHED).iterdir())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, StoreDenied),
        (errno.EROFS, StoreDenied),
        (errno.EDQUOT, StoreDenied),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.ETIMEDOUT, StoreUnavailable),
    ],
)
def test_what_the_system_says_becomes_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(kind, match=os.strerror(code)):
        LocalStore(tmp_path).create("key", b"")


def test_a_link_whose_answer_nfs_lost_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert LocalStore(tmp_path).create("key", b"mine") is True


def test_files_and_directories_in_the_way_are_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"")
    store.put("b/c", b"")
    for key in ("a/x", "a/x/y", "b"):
        with pytest.raises(StoreDenied, match="what to do"):
            store.put(key, b"")
        with pytest.raises(StoreDenied, match="what to do"):
            store.create(key, b"")
        assert store.get(key) is None
        store.delete(key)
    assert store.list("") == ["a", "b/c"]


def test_the_place_of_unfinished_files_is_no_key(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in (UNFINISHED, f"{UNFINISHED}/x"):
        with pytest.raises(StoreDenied):
            store.put(key, b"")


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    unfinished = tmp_path / UNFINISHED
    unfinished.mkdir(parents=True)
    for name, age_seconds in (("old", 2 * 24 * 3600), ("new", 60)):
        (unfinished / name).write_bytes(b"half")
        then = time.time() - age_seconds
        os.utime(unfinished / name, (then, then))
    LocalStore(tmp_path).put("key", b"")
    assert [path.name for path in unfinished.iterdir()] == ["new"]


def test_files_are_as_readable_as_the_user_wants(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    previous = os.umask(0o022)
    try:
        store.put("put", b"")
        store.create("created", b"")
    finally:
        os.umask(previous)
    for key in ("put", "created"):
        assert (tmp_path / key).stat().st_mode & 0o777 == 0o644


def test_reading_makes_no_directory(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "output")
    assert store.get("key") is None
    assert store.list("") == []
    store.delete("key")
    assert not (tmp_path / "output").exists()
