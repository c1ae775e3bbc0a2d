"""What the footers of a dataset's files say, as a stream. No row is read here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.core.shards import FileVersion, InputFile, RowGroup
from pipeline.dataset.files import open_parquet
from pipeline.stores.options import StoreOptions, arrow_filesystem
from pipeline.stores.uri import locate

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_AT_ONCE = 16
_AHEAD = 32
_FILESYSTEM_SECONDS = 60.0


def read_footers(
    files: Iterable[FileVersion], options: StoreOptions
) -> Iterator[tuple[InputFile, pa.Schema]]:
    """Row groups and schema of each file, in order; equal schemas are the same object.

    Reads a few files ahead of the one asked for and keeps none, so that memory does not grow with
    their number. Raises `InputInvalid` for files that are no Parquet.
    """
    filesystem = SharedFilesystem()
    ahead: deque[Future[tuple[InputFile, pa.Schema]]] = deque()
    schema: pa.Schema | None = None
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            remaining = iter(files)
            while True:
                while len(ahead) < _AHEAD and (file := next(remaining, None)) is not None:
                    ahead.append(pool.submit(_footer, file, options, filesystem))
                if not ahead:
                    return
                read, its_schema = ahead.popleft().result()
                if schema is None or not its_schema.equals(schema, check_metadata=True):
                    schema = its_schema
                yield read, schema
        finally:
            for unread in ahead:
                unread.cancel()


def _footer(
    file: FileVersion, options: StoreOptions, filesystem: SharedFilesystem
) -> tuple[InputFile, pa.Schema]:
    with open_parquet(file.uri, options, filesystem) as parquet:
        metadata = parquet.metadata
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        row_groups = tuple(RowGroup(group.num_rows, group.total_byte_size) for group in groups)
        return InputFile(file.uri, file.etag, file.size, row_groups), parquet.schema_arrow


class SharedFilesystem:
    """`arrow_filesystem` for many files in turn, from any thread.

    Making one reads the AWS configuration anew, which takes longer than reading a footer; but some
    temporary credentials are handed over as they are, so none is used for longer than a minute.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, tuple[float, FileSystem]] = {}

    def __call__(self, uri: str, options: StoreOptions) -> tuple[FileSystem, str]:
        location = locate(uri)
        bucket = location.path.partition("/")[0] if location.scheme == "s3" else location.scheme
        with self._lock:
            made_at, filesystem = self._made.get(bucket, (0.0, None))
            if filesystem is None or time.monotonic() - made_at > _FILESYSTEM_SECONDS:
                filesystem, _ = arrow_filesystem(uri, options)
                self._made[bucket] = (time.monotonic(), filesystem)
        return filesystem, location.path
