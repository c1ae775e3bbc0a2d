"""An object store in a bucket, over s3fs: one HTTP request a verb, sent once."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from fsspec.asyn import sync

from pipeline.core.errors import StoreDenied, StoreUnavailable
from pipeline.core.ports import Body
from pipeline.stores.bodies import size_of
from pipeline.stores.keys import checked_key, checked_prefix
from pipeline.stores.options import StoreOptions, s3fs_filesystem
from pipeline.stores.s3_errors import answer_in, store_error

if TYPE_CHECKING:
    from s3fs import S3FileSystem

T = TypeVar("T")

LARGEST_PUT_BYTES = 5 * 2**30  # Amazon S3 User Guide, "Uploading objects": one PUT
_WRITE_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 2**20


class S3Store:
    """Objects are those of a bucket, below a prefix. Usable from any thread, and after a fork.

    Retries nothing. A write is one PUT, whatever its size, because servers differ on conditions at
    the end of a multipart upload. `create` needs a server that honours `If-None-Match: *`.
    """

    def __init__(self, bucket_and_prefix: str, options: StoreOptions) -> None:
        bucket, _, prefix = bucket_and_prefix.strip("/").partition("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._lock = threading.Lock()
        self._by_process: dict[int, S3FileSystem] = {}

    def get(self, key: str) -> bytes | None:
        place = self._place(key)

        async def read(s3: S3FileSystem) -> bytes:
            answer = await s3._call_s3("get_object", **place)
            async with answer["Body"] as stream:
                return bytes(await stream.read())

        with self._explained(place["Key"]):
            try:
                return self._ask(read)
            except FileNotFoundError as error:
                # Anything else that is not found is a bucket, or a server that is no S3.
                if (answer := answer_in(error)) and answer.code == "NoSuchKey":
                    return None
                raise

    def put(self, key: str, body: bytes) -> None:
        self._write(self._place(key), body)

    def create(self, key: str, body: Body) -> bool:
        place = self._place(key)
        try:
            self._write({**place, "IfNoneMatch": "*"}, body)
        except (StoreDenied, StoreUnavailable) as error:
            answer = answer_in(error)
            if answer is not None and answer.status == 412:
                return False
            # 409: others are writing this key at this moment. If one of them is through, it won; if
            # not, nobody has yet, and trying again is right (S3 User Guide, "Conditional writes").
            if answer is not None and answer.status == 409 and self._exists(place):
                return False
            raise
        return True

    def list(self, prefix: str) -> Sequence[str]:
        below = f"{self._prefix}{checked_prefix(prefix)}"

        async def read(s3: S3FileSystem) -> list[str]:
            keys: list[str] = []
            place = {"Bucket": self._bucket, "Prefix": below}
            while True:
                page = await s3._call_s3("list_objects_v2", **place)
                keys += [found["Key"] for found in page.get("Contents", ())]
                if not page.get("IsTruncated"):
                    return keys
                place["ContinuationToken"] = page["NextContinuationToken"]

        with self._explained(below):
            keys = self._ask(read)
        # Consoles make empty objects that end in a slash and look like folders.
        return sorted(key.removeprefix(self._prefix) for key in keys if not key.endswith("/"))

    def delete(self, key: str) -> None:
        place = self._place(key)
        with self._explained(place["Key"]):
            self._ask(lambda s3: s3._call_s3("delete_object", **place))

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{checked_key(key)}"}

    def _write(self, place: dict[str, str], body: Body) -> None:
        size = size_of(body)
        if size > LARGEST_PUT_BYTES:
            raise StoreDenied(
                "the object is too large",
                where=self._where(place["Key"]),
                why=f"{size} bytes, and one PUT takes {LARGEST_PUT_BYTES}",
                hint="use smaller shards",
            )
        # Only answers are timed by the HTTP client: without a bound of our own, a server that
        # stops reading would hold us for ever.
        seconds = _WRITE_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
        with ExitStack() as open_files, self._explained(place["Key"]):
            sent = open_files.enter_context(body.open("rb")) if isinstance(body, Path) else body
            self._ask(
                lambda s3: s3._call_s3("put_object", Body=sent, ContentLength=size, **place),
                seconds,
            )

    def _exists(self, place: dict[str, str]) -> bool:
        with self._explained(place["Key"]):
            try:
                self._ask(lambda s3: s3._call_s3("head_object", **place))
            except FileNotFoundError:
                return False
            return True

    def _ask(self, call: Callable[[S3FileSystem], Awaitable[T]], seconds: float | None = None) -> T:
        s3 = self._s3()
        answer: T | None = sync(s3.loop, call, s3, timeout=seconds)
        if answer is None:  # how fsspec reports a cancelled request; no answer of S3 is None
            raise ConnectionAbortedError("the request was cancelled")
        return answer

    def _s3(self) -> S3FileSystem:
        """s3fs runs its requests on a thread of its own, which a fork leaves behind.

        The parent's instance is kept all the same: to drop it in a child takes its connections out
        of the epoll set that the two share, and the parent then waits for answers in vain.
        """
        with self._lock:
            process = os.getpid()
            if process not in self._by_process:
                self._by_process[process] = s3fs_filesystem(self._options)
            return self._by_process[process]

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            explained = store_error(error, self._where(key))
            if explained is None:
                raise
            raise explained from error

    def _where(self, key: str) -> str:
        connected = self._by_process.get(os.getpid())
        url = connected.endpoint_url if connected else None
        at = f" at {urlsplit(url).netloc.rpartition('@')[2]}" if url else ""
        return f"s3://{self._bucket}/{key}{at}"
