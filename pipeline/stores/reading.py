"""Reading inputs, which does not go through the five verbs but fails in the same ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import StoreDenied
from pipeline.stores.s3_errors import answer_in, store_error


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Errors of file systems as ours; `FileNotFoundError` passes, unless the bucket is missing."""
    try:
        yield
    except FileNotFoundError as error:
        answer = answer_in(error)
        explained = store_error(error, where) if answer and answer.code == "NoSuchBucket" else None
        if explained is None:
            raise
        raise explained from error
    except PermissionError as error:
        if answer_in(error) is None:
            raise StoreDenied("not allowed to read", where=where, why=str(error)) from error
        raise store_error(error, where) or error from error
    except Exception as error:
        explained = store_error(error, where)
        if explained is None:
            raise
        raise explained from error
