"""Objects as they lie in the store: written one way, and read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from pipeline.core.errors import ObjectDamaged

Json = dict[str, Any]
Get: TypeAlias = Callable[[str], bytes | None]
GetAll: TypeAlias = Callable[[Get, Sequence[str]], Iterable[bytes | None]]
"""Applies the first to each of the second, in order."""
T = TypeVar("T")
_READ_AT_ONCE = 64

MISSHAPEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a document may raise that somebody tore or rewrote."""


def in_words(problem: Exception) -> str:
    """What reading a misshapen document raised; such errors' messages alone may be one word."""
    return f"{type(problem).__name__}: {problem}"


def parse(body: bytes, parse_object: Callable[[Json], T], where: str) -> T:
    """What `parse_object` makes of a JSON object. Raises `ObjectDamaged` when it is none."""
    try:
        return parse_object(as_object(json.loads(body)))
    except MISSHAPEN as problem:
        raise ObjectDamaged(
            "not what spotmill writes there",
            where=where,
            why=in_words(problem),
            hint="put back an earlier version of the object, if the store keeps any",
        ) from problem


def one_by_one(get: Get, keys: Sequence[str]) -> Iterable[bytes | None]:
    """The simplest `GetAll`."""
    return map(get, keys)


def all_bodies(get_all: GetAll, get: Get, keys: Sequence[str]) -> Iterator[bytes | None]:
    """In the order of `keys`: many at a time, since a store takes long to answer, and not all at
    once, since they fill the memory."""
    for first in range(0, len(keys), _READ_AT_ONCE):
        yield from get_all(get, keys[first : first + _READ_AT_ONCE])


def all_parsed(
    get_all: GetAll, get: Get, keys: Sequence[str], parse_object: Callable[[Json], T]
) -> Iterator[T | None]:
    """As `parse` makes them; None where there is no object."""
    for key, body in zip(keys, all_bodies(get_all, get, keys), strict=True):
        yield None if body is None else parse(body, parse_object, key)


def with_keys(keys: Sequence[str]) -> Callable[[Json], Json]:
    """For `parse`: an object that has them all."""

    def checked(document: Json) -> Json:
        missing = [key for key in keys if key not in document]
        if missing:
            raise KeyError(missing[0])
        return document

    return checked


def as_object(document: Any) -> Json:
    if not isinstance(document, dict):
        raise TypeError(f"a JSON object is expected, this is a {type(document).__name__}")
    return document


def dump(document: Mapping[str, Any]) -> bytes:
    # Without an indent, since that alone makes Python's encoder several times slower.
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def dump_for_people(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()
