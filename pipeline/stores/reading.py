"""Reading inputs, which does not go through the five verbs but fails in the same ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import SpotmillError, StoreDenied


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Errors of file systems as ours; `FileNotFoundError` passes, unless the bucket is missing."""
    try:
        yield
    except Exception as error:
        explained = _explained(error, where)
        if explained is None:
            raise
        raise explained from error


def _explained(error: Exception, where: str) -> SpotmillError | None:
    # S3 libraries take a third of a command's start, which local runs without errors are spared.
    from pipeline.stores.s3_errors import answer_in, store_error

    answer = answer_in(error)
    if isinstance(error, FileNotFoundError):
        missing = answer is not None and answer.code == "NoSuchBucket"
        return store_error(error, where) if missing else None
    if isinstance(error, PermissionError) and answer is None:
        return StoreDenied("not allowed to read", where=where, why=str(error))
    return store_error(error, where)
