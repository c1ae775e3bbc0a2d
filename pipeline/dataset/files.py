"""Which files a dataset is made of, and whether they are still the planned ones."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.core.errors import InputChanged, InputInvalid, SpotmillError, StoreUnavailable
from pipeline.core.shard_list import ShardList
from pipeline.core.shards import FileVersion, Shard
from pipeline.stores.options import StoreOptions, arrow_filesystem, s3fs_filesystem
from pipeline.stores.reading import translated
from pipeline.stores.retry import retrying

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from s3fs import S3FileSystem

__all__ = ["FileVersion", "check_unchanged", "check_versions", "current_version", "discover"]

PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
_CONCURRENT_LOOKS = 16
# A listing answers for a thousand objects at once, though it may tell of others too.
_WORTH_A_LISTING = 64
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
            found = fs.glob(path, detail=True)
        elif path.endswith("/") or fs.isdir(path):
            found = fs.find(path, detail=True)
            found = {name: info for name, info in found.items() if _is_data(name, path)}
        else:
            try:
                found = {path: fs.info(path)}
            except FileNotFoundError:
                found = {}
        # Of a link, a listing tells when it was made and not what it leads to.
        links = [name for name, info in found.items() if info.get("islink")]
        found |= {name: _at_links_end(fs, name) for name in links}
    data = {name: info for name, info in found.items() if info.get("type") != "directory"}
    return [_version(scheme, name, data[name]) for name in sorted(data)]


def _at_links_end(fs: AbstractFileSystem, name: str) -> dict[str, Any]:
    try:
        info: dict[str, Any] = fs.info(name)
    except FileNotFoundError as problem:
        raise InputInvalid(
            "a link that leads nowhere",
            where=name,
            hint="remove it, or put back what it leads to",
        ) from problem
    return info


def check_unchanged(shards: Iterable[Shard], options: StoreOptions) -> None:
    """Raises `InputChanged` when a file is not, or is no longer, the planned one."""
    check_versions(ShardList.of(shards).versions, options)


def check_versions(planned: Iterable[FileVersion], options: StoreOptions) -> None:
    """Raises `InputChanged` when a file is not, or is no longer, in this version."""
    versions = {file.uri: file for file in planned}
    found = _current_versions(list(versions), options)
    for uri, was in versions.items():
        now = found[uri]
        if now != was:
            seen = "it is gone" if now is None else f"etag {now.etag}, {now.size} bytes"
            raise InputChanged(
                "the input changed since the run was planned",
                where=uri,
                why=f"planned with etag {was.etag}, {was.size} bytes; now {seen}",
                hint="put the planned file back and `resume`, or start a new run (--run-id)",
            )


def _current_versions(
    uris: Sequence[str], options: StoreOptions
) -> Mapping[str, FileVersion | None]:
    """All of these as they are now, with a request for each only where they are few."""
    folders = Counter(uri.rpartition("/")[0] for uri in uris if uri.startswith("s3://"))
    found: dict[str, FileVersion | None] = {}
    for folder, wanted in folders.items():
        if wanted >= _WORTH_A_LISTING:
            listed = {file.uri: file for file in _in_folder(folder, options)}
            inside = (uri for uri in uris if uri.rpartition("/")[0] == folder)
            found.update((uri, listed.get(uri)) for uri in inside)
    left = [uri for uri in uris if uri not in found]
    if not folders or len(left) < 2:
        found.update((uri, current_version(uri, options)) for uri in left)
        return found
    with ThreadPoolExecutor(_CONCURRENT_LOOKS) as pool:
        versions = pool.map(lambda uri: current_version(uri, options), left)
        found.update(zip(left, versions, strict=True))
    return found


def _in_folder(folder: str, options: StoreOptions) -> list[FileVersion]:
    def look() -> list[FileVersion]:
        fs, scheme, path = _control(folder, options)
        with translated(folder):
            try:
                infos = fs.ls(path, detail=True)
            except FileNotFoundError:
                return []
        return [_version(scheme, i["name"], i) for i in infos if i["type"] == "file"]

    return retrying(f"list {folder}", look)


def open_parquet(
    uri: str,
    options: StoreOptions,
    filesystem: Callable[[str, StoreOptions], tuple[FileSystem, str]] = arrow_filesystem,
    buffer_bytes: int = 0,
) -> pq.ParquetFile:
    """What is asked of it is fetched ahead, or streamed if `buffer_bytes` are given, a column each.

    Raises `InputInvalid` when it is no (whole) Parquet file, `StoreUnavailable` on bad luck.
    """

    def attempt() -> pq.ParquetFile:
        fs, path = filesystem(uri, options)
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


def _control(uri: str, options: StoreOptions) -> tuple[AbstractFileSystem, str, str]:
    if uri.startswith("s3://"):
        return _s3fs_at_hand(options), "s3://", uri.removeprefix("s3://")
    return LocalFileSystem(), "", uri.removeprefix("file://")


_lock = threading.Lock()
_s3fs: dict[object, S3FileSystem] = {}


def _s3fs_at_hand(options: StoreOptions) -> S3FileSystem:
    """One instance for as long as what it is made from stays the same, and for one process alone;
    making it costs more than asking it."""
    environment = frozenset(pair for pair in os.environ.items() if pair[0].startswith("AWS_"))
    made_from = (os.getpid(), options, environment)
    with _lock:
        if made_from not in _s3fs:
            _s3fs[made_from] = s3fs_filesystem(options)
        return _s3fs[made_from]


def _is_data(name: str, root: str) -> bool:
    below = PurePosixPath(name.removeprefix(root.rstrip("/")).lstrip("/"))
    hidden = any(part.startswith(("_", ".")) for part in below.parts)
    return below.suffix in PARQUET_SUFFIXES and not hidden


def _version(scheme: str, name: str, info: dict[str, Any]) -> FileVersion:
    etag = info.get("ETag")
    if etag is None:
        etag = f"{info['mtime']:.9f}-{info.get('ino', 0)}"
    return FileVersion(scheme + name, etag.strip('"'), info["size"])
