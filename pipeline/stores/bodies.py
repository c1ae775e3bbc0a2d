"""A body to be written, in memory or a file: how large it is, and whether it is what is stored."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.ports import Body

PIECE_BYTES = 2**20


def size_of(body: Body) -> int:
    return body.stat().st_size if isinstance(body, Path) else len(body)


def whole(body: Body) -> bytes:
    """In memory, for what keeps it there anyway."""
    return body.read_bytes() if isinstance(body, Path) else bytes(body)


def same(stored: bytes | None, body: Body) -> bool:
    """Whether this is what is stored. Of a file, a piece at a time is read."""
    if stored is None or not isinstance(body, Path):
        return stored == body
    if len(stored) != size_of(body):
        return False
    rest = memoryview(stored)
    with body.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            if rest[: len(piece)] != piece:
                return False
            rest = rest[len(piece) :]
    return not rest
