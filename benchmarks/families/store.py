"""Our object store's verbs against bare clients, on a real S3 API on loopback."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs
from botocore.exceptions import ClientError

from benchmarks.figure import Figure, Record, ratios, spread
from benchmarks.setting import Setting
from pipeline.core.ports import ObjectStore
from pipeline.stores import StoreOptions, open_store
from tests.s3 import running_server

_BODY = b"x" * 2_000
_BUCKET = "bench"
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class _Client:
    """The same verbs of one of the three, on names of its own."""

    put: Callable[[str], object]
    get: Callable[[str], object]
    create: Callable[[str], bool]
    list: Callable[[str], int]


def measure(setting: Setting) -> Iterator[Record]:
    each = setting.of_size(10, 40, 100)
    with tempfile.TemporaryDirectory() as name, running_server(Path(name)) as server:
        os.environ |= server.environment
        boto = server.client()
        boto.create_bucket(Bucket=_BUCKET)
        options = StoreOptions(endpoint_url=server.endpoint_url)
        files = s3fs.S3FileSystem(endpoint_url=server.endpoint_url, use_listings_cache=False)
        clients = {
            "spotmill": _ours(open_store(f"s3://{_BUCKET}", options)),
            "s3fs": _s3fs(files),
            "botocore": _botocore(boto),
        }
        took = _took(clients, each)
    for verb in ("get", "put", "create", "list"):
        for other in ("s3fs", "botocore"):
            yield spread(
                f"store.{verb}-{other}",
                f"`{verb}`, spotmill / bare {other}",
                ratios(took["spotmill", verb], took[other, verb]),
                f"seconds; {_ROUNDS} rounds of {each} objects of {len(_BODY)} bytes, one after the "
                "other, on loopback"
                if verb != "list"
                else f"seconds; {_ROUNDS} listings of {each} keys",
            )
    yield Figure(
        "store.create-ms",
        "one `create`",
        1e3 * sum(took["spotmill", "create"]) / (_ROUNDS * each),
        "what a claim or a checkpoint pays beside its bytes, on this server",
        unit="ms",
    )


def _took(clients: dict[str, _Client], each: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by client and verb, a round each."""
    took: dict[tuple[str, str], list[float]] = {}
    for client in clients.values():
        client.put("warm/0")
    order = list(clients)
    for n in range(_ROUNDS):
        order = [*order[1:], order[0]]
        for name in order:
            for verb, seconds in _round(clients[name], f"{name}/{n}/", each):
                took.setdefault((name, verb), []).append(seconds)
    return took


def _round(client: _Client, prefix: str, each: int) -> Iterator[tuple[str, float]]:
    """Raises `ValueError` when a client did not do what it is timed for."""
    keys = [f"{prefix}{n}" for n in range(each)]
    began = time.monotonic()
    made = [client.create(key) for key in keys]
    yield "create", time.monotonic() - began
    began = time.monotonic()
    for key in keys:
        client.put(key)
    yield "put", time.monotonic() - began
    began = time.monotonic()
    for key in keys:
        client.get(key)
    yield "get", time.monotonic() - began
    began = time.monotonic()
    found = client.list(prefix)
    yield "list", time.monotonic() - began
    if not all(made) or found != each:
        raise ValueError(f"{sum(made)} of {each} objects were made, {found} listed")


def _ours(store: ObjectStore) -> _Client:
    return _Client(
        put=lambda key: store.put(key, _BODY),
        get=store.get,
        create=lambda key: store.create(key, _BODY),
        list=lambda prefix: len(store.list(prefix)),
    )


def _s3fs(files: Any) -> _Client:
    def create(key: str) -> bool:
        files.pipe_file(f"{_BUCKET}/{key}", _BODY, mode="create")
        return True

    return _Client(
        put=lambda key: files.pipe_file(f"{_BUCKET}/{key}", _BODY),
        get=lambda key: files.cat_file(f"{_BUCKET}/{key}"),
        create=create,
        list=lambda prefix: len(files.find(f"{_BUCKET}/{prefix}")),
    )


def _botocore(client: Any) -> _Client:
    def create(key: str) -> bool:
        try:
            client.put_object(Bucket=_BUCKET, Key=key, Body=_BODY, IfNoneMatch="*")
        except ClientError:
            return False
        return True

    return _Client(
        put=lambda key: client.put_object(Bucket=_BUCKET, Key=key, Body=_BODY),
        get=lambda key: client.get_object(Bucket=_BUCKET, Key=key)["Body"].read(),
        create=create,
        list=lambda prefix: len(
            client.list_objects_v2(Bucket=_BUCKET, Prefix=prefix).get("Contents", ())
        ),
    )
