"""Which files a dataset is made of, and what their footers say. No row is read here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.core.errors import InputChanged, InputInvalid, SpotmillError, StoreUnavailable
from pipeline.core.shards import InputFile, RowGroup, Shard
from pipeline.stores.options import StoreOptions, arrow_filesystem, s3fs_filesystem
from pipeline.stores.reading import translated
from pipeline.stores.retry import retrying

PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
_CONCURRENT_FOOTERS = 16
# pyarrow raises plain OSErrors for files that are broken or encrypted; these words tell them.
_BROKEN = (
    "thrift",
    "orrupt",
    "Unexpected end of stream",
    "ncrypt",
    "page header",
    "Codec failed",
    "decompress",
    "Invalid BYTE_ARRAY",
)


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file and what tells this version of it from another."""

    uri: str
    etag: str
    size: int


def discover(uri: str, options: StoreOptions) -> list[FileVersion]:
    """The Parquet files of a file, directory or glob, sorted by URI.

    In directories, names that begin with `_` or `.` and other suffixes are passed over. Raises
    `InputInvalid` when nothing is there.
    """
    files = retrying(f"list {uri}", lambda: _listed(uri, options))
    if not files:
        raise InputInvalid(
            "no Parquet file is there",
            where=uri,
            hint="correct input.uri: a Parquet file, a directory of them, or a glob",
        )
    return files


def current_version(uri: str, options: StoreOptions) -> FileVersion | None:
    """What the file is now; None when it is gone."""

    def look() -> FileVersion | None:
        fs, scheme, path = _control(uri, options)
        with translated(uri):
            try:
                return _version(scheme, path, fs.info(path))
            except FileNotFoundError:
                return None

    return retrying(f"look at {uri}", look)


def _listed(uri: str, options: StoreOptions) -> list[FileVersion]:
    fs, scheme, path = _control(uri, options)
    with translated(uri):
        if any(mark in path for mark in "*?["):
            found = {name: fs.info(name) for name in fs.glob(path)}
        elif path.endswith("/") or fs.isdir(path):
            found = fs.find(path, detail=True)
            found = {name: info for name, info in found.items() if _is_data(name, path)}
        else:
            found = {path: fs.info(path)} if fs.exists(path) else {}
    data = {name: info for name, info in found.items() if info.get("type") != "directory"}
    return [_version(scheme, name, data[name]) for name in sorted(data)]


def check_unchanged(shards: Iterable[Shard], options: StoreOptions) -> None:
    """Raises `InputChanged` when a file is not, or is no longer, the planned one."""
    planned = {shard.uri: (shard.etag, shard.size) for shard in shards}
    with ThreadPoolExecutor(_CONCURRENT_FOOTERS) as pool:
        versions = pool.map(lambda uri: current_version(uri, options), planned)
        for (uri, (etag, size)), now in zip(planned.items(), versions, strict=True):
            if now is None or (now.etag, now.size) != (etag, size):
                found = "it is gone" if now is None else f"etag {now.etag}, {now.size} bytes"
                raise InputChanged(
                    "the input changed since the run was planned",
                    where=uri,
                    why=f"planned with etag {etag}, {size} bytes; now {found}",
                    hint="put the planned file back and `resume`, or start a new run (--run-id)",
                )


def read_footers(
    files: Sequence[FileVersion], options: StoreOptions
) -> Iterable[tuple[InputFile, pa.Schema]]:
    """Row groups and schema of each file, in order. Raises `InputInvalid` for other files."""
    with ThreadPoolExecutor(_CONCURRENT_FOOTERS) as pool:
        yield from pool.map(lambda file: _footer(file, options), files)


def open_parquet(uri: str, options: StoreOptions, buffer_bytes: int = 0) -> pq.ParquetFile:
    """What is asked of it is fetched ahead, or streamed if `buffer_bytes` are given, a column each.

    Raises `InputInvalid` when it is no (whole) Parquet file, `StoreUnavailable` on bad luck.
    """

    def attempt() -> pq.ParquetFile:
        fs, path = arrow_filesystem(uri, options)
        try:
            return pq.ParquetFile(
                path, filesystem=fs, pre_buffer=not buffer_bytes, buffer_size=buffer_bytes
            )
        except pa.ArrowInvalid as problem:
            raise InputInvalid(
                "not a whole Parquet file",
                where=uri,
                why=first_line(problem),
                hint="write the file again, or keep it out of input.uri",
            ) from problem
        except OSError as problem:
            raise read_error(problem, uri) from problem

    return retrying(f"open {uri}", attempt)


def first_line(problem: Exception) -> str:
    """The words of an error, which fit into a message of ours."""
    return str(problem).splitlines()[0] if str(problem) else repr(problem)


def read_error(problem: OSError, uri: str) -> SpotmillError:
    """What pyarrow's complaint means: bytes that are wrong stay wrong, a store may come back."""
    why = first_line(problem)
    if problem.errno is None and any(mark in why for mark in _BROKEN):
        return InputInvalid(
            "not a whole Parquet file",
            where=uri,
            why=why,
            hint="write the file again, or keep it out of input.uri",
        )
    return StoreUnavailable("cannot read the file", where=uri, why=why)


def _footer(file: FileVersion, options: StoreOptions) -> tuple[InputFile, pa.Schema]:
    with open_parquet(file.uri, options) as parquet:
        groups = (parquet.metadata.row_group(i) for i in range(parquet.num_row_groups))
        row_groups = tuple(RowGroup(group.num_rows, group.total_byte_size) for group in groups)
        return InputFile(file.uri, file.etag, file.size, row_groups), parquet.schema_arrow


def _control(uri: str, options: StoreOptions) -> tuple[AbstractFileSystem, str, str]:
    if uri.startswith("s3://"):
        return s3fs_filesystem(options), "s3://", uri.removeprefix("s3://")
    return LocalFileSystem(), "", uri.removeprefix("file://")


def _is_data(name: str, root: str) -> bool:
    below = PurePosixPath(name.removeprefix(root.rstrip("/")).lstrip("/"))
    hidden = any(part.startswith(("_", ".")) for part in below.parts)
    return below.suffix in PARQUET_SUFFIXES and not hidden


def _version(scheme: str, name: str, info: dict[str, Any]) -> FileVersion:
    etag = info.get("ETag")
    if etag is None:
        etag = f"{info['mtime']:.9f}-{info.get('ino', 0)}"
    return FileVersion(scheme + name, etag.strip('"'), info["size"])
