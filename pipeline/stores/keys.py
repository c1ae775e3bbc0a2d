"""What a key may look like. Every store checks, so that a key good in one is good in all."""

from __future__ import annotations

from pipeline.core.errors import StoreDenied

LONGEST_KEY_BYTES = 1024  # of S3


def checked_key(key: str) -> str:
    """The key itself. Raises `StoreDenied` unless it is relative, with real names in it only."""
    if not key:
        raise _refused(key, "it is empty")
    return _checked(key, key.split("/"))


def checked_prefix(prefix: str) -> str:
    """The prefix itself: a key cut anywhere, also inside a name or after a `/`, or nothing."""
    *directories, _ = prefix.split("/")
    return _checked(prefix, directories)


def _checked(text: str, segments: list[str]) -> str:
    if "" in segments:
        raise _refused(text, "it is absolute, or a name between two slashes is empty")
    if "." in segments or ".." in segments:
        raise _refused(text, "`.` and `..` are not names")
    if "\0" in text:
        raise _refused(text, "it holds a zero byte")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise _refused(text, "it is not valid Unicode") from None
    if length > LONGEST_KEY_BYTES:
        raise _refused(text, f"it is longer than {LONGEST_KEY_BYTES} bytes")
    return text


def _refused(key: str, why: str) -> StoreDenied:
    return StoreDenied(
        f"no object can be called {key[:200]!r}",
        why=why,
        hint="keys are relative names joined by single slashes",
    )
