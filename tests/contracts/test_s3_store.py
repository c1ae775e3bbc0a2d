"""What only a bucket, and the way to it, can get wrong."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_none

from pipeline.core.errors import StoreDenied, StoreUnavailable
from pipeline.stores import StoreOptions, options
from pipeline.stores.retry import RetryingStore, RetryPolicy
from pipeline.stores.s3 import S3Store
from tests.contracts.canned import CannedServer, canned_store
from tests.s3 import LossyProxy, S3Bucket, free_port

TWICE = RetryPolicy(stop=stop_after_attempt(2), wait=wait_none(), sleep=lambda _: None)


def test_twenty_megabytes_are_created_by_one_request(
    s3_bucket: S3Bucket, proxy: LossyProxy
) -> None:
    body = os.urandom(2**20) * 20
    store = S3Store(s3_bucket.name, StoreOptions(endpoint_url=proxy.endpoint_url))
    assert store.create("part", body) is True
    assert store.create("part", b"another") is False
    assert proxy.requests == ["PUT", "PUT"]
    assert store.get("part") == body


def test_a_hundred_and_twenty_megabytes_are_created_by_one_request(canned: CannedServer) -> None:
    assert canned_store(canned).create("part", bytes(120 * 2**20)) is True
    assert canned.requests == ["PUT"]


def test_a_file_is_created_by_one_request_that_holds_none_of_it(
    canned: CannedServer, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    with part.open("wb") as file:
        file.truncate(120 * 2**20)
    store = canned_store(canned)
    assert store.create("small", b"connected") is True
    tracemalloc.start()
    try:
        assert store.create("part", part) is True
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert canned.requests == ["PUT", "PUT"]
    assert most < 8 * 2**20


def test_more_than_one_put_takes_is_refused(
    canned: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stores.s3.LARGEST_PUT_BYTES", 10)
    with pytest.raises(StoreDenied, match="smaller shards"):
        canned_store(canned).put("part", bytes(11))
    assert not canned.requests


def test_a_lost_answer_is_doubt_and_nothing_below_tries_again(
    s3_bucket: S3Bucket, proxy: LossyProxy
) -> None:
    store = S3Store(s3_bucket.name, StoreOptions(endpoint_url=proxy.endpoint_url))
    proxy.answers_to_lose = 1
    with pytest.raises(StoreUnavailable):
        store.create("key", b"mine")
    assert proxy.requests == ["PUT"]
    assert store.get("key") == b"mine"


def test_a_create_whose_answer_the_network_lost_is_won(
    s3_bucket: S3Bucket, proxy: LossyProxy
) -> None:
    store = S3Store(s3_bucket.name, StoreOptions(endpoint_url=proxy.endpoint_url))
    proxy.answers_to_lose = 1
    assert RetryingStore(store, TWICE).create("key", b"mine") is True
    assert proxy.requests == ["PUT", "PUT", "GET"]
    proxy.answers_to_lose = 1
    assert RetryingStore(store, TWICE).create("key", b"yours") is False


def test_prefixes_keep_stores_apart(s3_bucket: S3Bucket, s3_client: Any) -> None:
    ours, theirs = (S3Store(f"{s3_bucket.name}/{name}", StoreOptions()) for name in ("a", "ab"))
    ours.put("key", b"ours")
    theirs.put("key", b"theirs")
    assert ours.list("") == theirs.list("") == ["key"]
    assert ours.get("key") == b"ours"
    assert S3Store(s3_bucket.name, StoreOptions()).list("") == ["a/key", "ab/key"]


def test_folders_made_by_a_console_are_no_objects(s3_bucket: S3Bucket, s3_client: Any) -> None:
    for key in ("answers/", "answers/data/"):
        s3_client.put_object(Bucket=s3_bucket.name, Key=key, Body=b"")
    assert S3Store(f"{s3_bucket.name}/answers", StoreOptions()).list("") == []


def test_a_missing_bucket_is_not_a_missing_object(s3_bucket: S3Bucket) -> None:
    store = S3Store(f"{s3_bucket.name}-not", StoreOptions())
    for use in (
        lambda: store.get("key"),
        lambda: store.put("key", b""),
        lambda: store.create("key", b""),
        lambda: store.list(""),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreDenied, match="create the bucket") as denied:
            use()
        assert f"s3://{s3_bucket.name}-not/" in denied.value.where


def test_a_body_cut_short_is_no_body(canned: CannedServer) -> None:
    canned.body, canned.missing_bytes = b"half of ", 7
    with pytest.raises(StoreUnavailable):
        canned_store(canned).get("key")


def test_a_server_that_is_not_there_is_noticed(aws_environment: None) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    store = S3Store("a-bucket", StoreOptions(endpoint_url=endpoint))
    with pytest.raises(StoreUnavailable, match=endpoint.removeprefix("http://")):
        store.create("key", b"body")
    with pytest.raises(StoreUnavailable, match="tried 2 times"):
        RetryingStore(store, TWICE).list("")
    assert time.monotonic() - began < 10


def test_a_server_that_does_not_answer_is_noticed(
    canned: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    canned.silent = True
    monkeypatch.setattr(options, "READ_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"[Tt]imeout"):
        canned_store(canned).create("key", b"body")
    assert time.monotonic() - began < 5
    assert canned.requests == ["PUT"]


def test_a_server_that_stops_reading_is_noticed(
    proxy: LossyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stores.s3._WRITE_SECONDS", 0.3)
    monkeypatch.setattr("pipeline.stores.s3._SLOWEST_BYTES_PER_SECOND", 2**40)
    proxy.stalled = True
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        S3Store("a-bucket", StoreOptions(endpoint_url=proxy.endpoint_url)).put(
            "key", bytes(30 * 2**20)
        )
    assert time.monotonic() - began < 5


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_store_works_on_after_a_fork(s3_bucket: S3Bucket) -> None:
    store = S3Store(s3_bucket.name, StoreOptions())
    store.put("parent", b"1")
    child = os.fork()
    if child == 0:
        try:
            made = store.create("child", store.get("parent") or b"")
            os._exit(0 if made else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    began = time.monotonic()
    assert store.get("child") == b"1"
    assert time.monotonic() - began < options.READ_SECONDS / 2
