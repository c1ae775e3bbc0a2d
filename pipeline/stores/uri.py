"""Where a URI points: one reading of it for the object stores and for the Parquet reader."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pipeline.core.errors import JobInvalid, without_secrets

# Two letters or more, so that a Windows drive is no scheme.
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/*)")


@dataclass(frozen=True, slots=True)
class Location:
    """`path` is absolute for `file`, `bucket` or `bucket/prefix` for `s3`, a name for `memory`."""

    scheme: Literal["file", "s3", "memory"]
    path: str


def locate(uri: str) -> Location:
    """Read a path, `file://`, `s3://` or `memory://`. Raises `JobInvalid` for anything else."""
    found = _SCHEME.match(uri)
    if not uri.strip():
        raise _unreadable(uri, "it is empty")
    if found is None:
        return Location("file", str(Path(uri).expanduser().absolute()))
    scheme, rest = found["scheme"].lower(), uri[found.end() :]
    if len(found["slashes"]) < 2:
        raise _unreadable(uri, f"`{scheme}:` is not followed by two slashes")
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise _unreadable(uri, "a file URI names an absolute path: file:///path")
        return Location("file", str(Path(unquote(parts.path))))
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if not bucket or len(found["slashes"]) > 2:
            raise _unreadable(uri, "it names no bucket")
        if "@" in bucket:
            raise _unreadable(uri, "credentials come from the environment, never from a URI")
        return Location("s3", f"{bucket}/{prefix.strip('/')}".rstrip("/"))
    if scheme == "memory":
        return Location("memory", rest.strip("/"))
    raise _unreadable(uri, f"spotmill does not know `{scheme}://`")


def _unreadable(uri: str, why: str) -> JobInvalid:
    return JobInvalid(
        f"cannot use {without_secrets(uri)!r} as a place for objects",
        why=why,
        hint="use s3://bucket/prefix (other clouds: their S3 endpoint, as `endpoint_url`), "
        "file:///path or a path",
    )
