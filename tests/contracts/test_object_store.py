"""The contract that every store keeps, asked of every store there is."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.errors import StoreDenied
from pipeline.core.ports import ObjectStore
from pipeline.stores import StoreOptions
from pipeline.stores.local import LocalStore
from pipeline.stores.memory import MemoryStore
from pipeline.stores.retry import RetryingStore
from pipeline.stores.s3 import S3Store
from pipeline.stores.together import get_together
from tests.contracts.race import race_to_create
from tests.s3 import S3Bucket

PLAIN = ["local", "memory", "s3"]


def plain_store(kind: str, request: pytest.FixtureRequest) -> ObjectStore:
    if kind == "memory":
        return MemoryStore()
    if kind == "local":
        root: Path = request.getfixturevalue("tmp_path")
        return LocalStore(root / "output")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return S3Store(f"{bucket.name}/answers", StoreOptions())


@pytest.fixture(params=[*PLAIN, *(f"{kind} with retries" for kind in PLAIN)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    kind, _, retries = str(request.param).partition(" ")
    plain = plain_store(kind, request)
    return RetryingStore(plain) if retries else plain


def test_an_object_comes_back_as_it_was_put(store: ObjectStore) -> None:
    store.put("runs/a/job.json", b"\x00\xff{}\r\n")
    assert store.get("runs/a/job.json") == b"\x00\xff{}\r\n"


def test_what_is_not_there_is_none(store: ObjectStore) -> None:
    assert store.get("runs/a/job.json") is None
    store.put("runs/a", b"an object can be the beginning of a key")
    assert store.get("runs/a/job.json") is None
    assert store.get("runs") is None


def test_many_objects_come_in_the_order_asked_for(store: ObjectStore) -> None:
    keys = [f"checkpoints/{n:03d}" for n in range(40)]
    for key in keys:
        store.put(key, key.encode())
    asked = ["checkpoints/missing", *reversed(keys)]
    bodies = [None, *(key.encode() for key in reversed(keys))]
    assert get_together(store.get, asked) == bodies
    assert get_together(store.get, []) == []


def test_put_replaces(store: ObjectStore) -> None:
    store.put("beat", b"first, and longer")
    store.put("beat", b"second")
    assert store.get("beat") == b"second"
    assert store.list("") == ["beat"]


def test_readers_see_the_old_body_or_the_new_one_whole(store: ObjectStore) -> None:
    bodies = [bytes([number]) * 200_000 for number in range(4)]
    store.put("beat", bodies[0])
    stop = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen = store.get("beat")
            if seen not in bodies:
                torn.append(len(seen or b""))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(16):
            store.put("beat", bodies[turn % 4])
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not torn


def test_create_makes_and_does_not_replace(store: ObjectStore) -> None:
    assert store.create("leases/00012/000001.json", b"mine") is True
    assert store.create("leases/00012/000001.json", b"yours") is False
    assert store.create("leases/00012/000001.json", b"mine") is False
    assert store.get("leases/00012/000001.json") == b"mine"


@pytest.mark.parametrize("size", [0, 1, 3 * 2**20 + 7])
def test_a_file_is_created_as_its_bytes_are(store: ObjectStore, tmp_path: Path, size: int) -> None:
    body = os.urandom(size)
    mine, yours = tmp_path / "mine", tmp_path / "yours"
    mine.write_bytes(body)
    yours.write_bytes(b"yours")
    assert store.create("data/part-00000.parquet", mine) is True
    assert store.create("data/part-00000.parquet", yours) is False
    assert store.create("data/part-00000.parquet", mine) is False
    mine.unlink()
    assert store.get("data/part-00000.parquet") == body
    assert store.list("data/") == ["data/part-00000.parquet"]


def test_sixteen_threads_create_one_key_from_files_and_one_wins(
    store: ObjectStore, tmp_path: Path
) -> None:
    files = [tmp_path / f"body-{number}" for number in range(16)]
    for number, file in enumerate(files):
        file.write_bytes(f"attempt {number}".encode() * 1_000)
    told = race_to_create(store, "part", files)
    assert told.count(True) == 1, told
    assert store.get("part") == files[told.index(True)].read_bytes()


def test_create_does_not_replace_what_was_put(store: ObjectStore) -> None:
    store.put("key", b"put")
    assert store.create("key", b"created") is False
    assert store.get("key") == b"put"


def test_create_after_delete_makes_it_again(store: ObjectStore) -> None:
    assert store.create("key", b"one")
    store.delete("key")
    assert store.create("key", b"two")
    assert store.get("key") == b"two"


@pytest.mark.parametrize("equal", [False, True], ids=["distinct bodies", "equal bodies"])
def test_sixteen_threads_create_one_key_and_one_wins(store: ObjectStore, equal: bool) -> None:
    bodies = [b"the same" if equal else f"attempt {number}".encode() for number in range(16)]
    for turn in range(6):
        key = f"leases/{turn:05d}/000001.json"
        told = race_to_create(store, key, bodies)
        assert told.count(True) == 1, told
        if isinstance(store, RetryingStore | MemoryStore | LocalStore):
            assert told.count(False) == 15, told
        assert store.get(key) == bodies[told.index(True)]


def test_deleting_twice_is_no_error(store: ObjectStore) -> None:
    store.put("key", b"body")
    store.delete("key")
    store.delete("key")
    store.delete("never/was")
    assert store.get("key") is None
    assert store.list("") == []


def test_an_empty_body_is_an_object(store: ObjectStore) -> None:
    assert store.create("empty", b"") is True
    assert store.create("empty", b"") is False
    assert store.get("empty") == b""
    store.put("empty too", b"")
    assert store.list("") == ["empty", "empty too"]


@pytest.mark.parametrize(
    "key",
    [
        "data/run=nightly 2026-11-20/part-00012.parquet",
        "données/ünïcode/日本語/🙂.json",
        "a+b&c%20d#e?f=g;h,i@j:k$l!m'n(o)p*q~r[s]",
        "data/a?versionId=1",
        "dots...in/.names/x..y",
    ],
)
def test_keys_hold_any_printable_character(store: ObjectStore, key: str) -> None:
    assert store.create(key, b"body") is True
    assert store.create(key, b"other") is False
    assert store.get(key) == b"body"
    assert store.list("") == [key]
    assert store.list(key[:-1]) == [key]
    store.delete(key)
    assert store.list("") == []


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a\0b", "x" * 1025]
)
def test_keys_that_are_none_are_refused_by_every_verb(store: ObjectStore, key: str) -> None:
    for use in (
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.create(key, b""),
        lambda: store.delete(key),
    ):
        with pytest.raises(StoreDenied, match="no object can be called"):
            use()


@pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/../b"])
def test_prefixes_of_no_key_are_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(StoreDenied):
        store.list(prefix)


def test_list_takes_a_prefix_of_the_key_not_a_directory(store: ObjectStore) -> None:
    keys = ["runs/a-b", "runs/a.json", "runs/a/x", "runs/a/y/z", "runs/ab/x", "runs/b", "runsa"]
    for key in reversed(keys):
        store.put(key, b"")
    assert store.list("") == keys
    assert store.list("runs/a") == keys[:5]
    assert store.list("runs/a/") == ["runs/a/x", "runs/a/y/z"]
    assert store.list("runs/a/y") == ["runs/a/y/z"]
    assert store.list("runs/ab/x") == ["runs/ab/x"]
    assert store.list("runs") == keys
    assert store.list("runs/") == keys[:-1]
    assert store.list("runs/c") == []
    assert store.list("runs/b/") == []
    assert store.list("nothing/here/") == []


def test_list_sorts_by_code_point(store: ObjectStore) -> None:
    names = ["!", "+", "-", "0", "A", "_", "a", "é", "日", "🙂"]
    for name in reversed(names):
        store.put(f"p/{name}/x", b"")
    assert store.list("p/") == [f"p/{name}/x" for name in names]


def test_list_goes_on_after_a_thousand_keys(store: ObjectStore) -> None:
    keys = [f"k/{number:05d}" for number in range(1005)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: store.put(key, b""), keys))
    assert store.list("k/") == keys
    assert store.list("k/000") == keys[:100]


def test_one_store_serves_many_threads(store: ObjectStore) -> None:
    def work(number: int) -> bool:
        store.put(f"beats/{number}", str(number).encode())
        seen = store.get(f"beats/{number}") == str(number).encode()
        return seen and f"beats/{number}" in store.list("beats/")

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(16)))
    assert len(store.list("beats/")) == 16
