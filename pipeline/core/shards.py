"""Cutting a dataset into shards, from its Parquet footers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STRETCH_ROWS = 65_536
"""Rows of a shard that are admitted together: in any order inside a stretch, and stretches one
after the other, at most two of them at a time."""


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file and what tells this version of it from another.

    `etag` is the store's own, or any string that changes when the content does; `size` is in bytes.
    """

    uri: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file as it was when the run was planned."""

    uri: str
    etag: str
    size: int
    row_groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.row_groups)


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows `[first_row, first_row + rows)` of these consecutive row groups of one file.

    The unit of ownership and of output. `bytes` is its share of the file, uncompressed.
    """

    id: int
    uri: str
    etag: str
    size: int
    row_groups: tuple[int, ...]
    first_row: int
    rows: int
    bytes: int


def plan_shards(files: Iterable[InputFile], rows_per_shard: int) -> Iterator[Shard]:
    """Shards of at most `rows_per_shard` rows, in the order of `files`, numbered from 0.

    Whole row groups go together while they fit; one that is larger than a shard is cut into parts
    of nearly equal size, so that no shard is a sliver. A shard never spans files: its manifest
    names one input and one ETag. The same files give the same shards.
    """
    if rows_per_shard < 1:
        raise ValueError("rows_per_shard must be at least 1")
    shard_id = 0
    for file in files:
        for groups, first_row, rows, size in _pieces(file, rows_per_shard):
            yield Shard(shard_id, file.uri, file.etag, file.size, groups, first_row, rows, size)
            shard_id += 1


def _pieces(file: InputFile, limit: int) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    open_groups: tuple[int, ...] = ()
    open_rows = open_bytes = 0
    for index, group in enumerate(file.row_groups):
        if open_groups and open_rows + group.rows > limit:
            yield open_groups, 0, open_rows, open_bytes
            open_groups, open_rows, open_bytes = (), 0, 0
        if group.rows > limit:
            yield from _parts(index, group, limit)
        elif group.rows:
            open_groups += (index,)
            open_rows += group.rows
            open_bytes += group.bytes
    if open_groups:
        yield open_groups, 0, open_rows, open_bytes


def _parts(
    index: int, group: RowGroup, limit: int
) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    parts = -(-group.rows // limit)
    for part in range(parts):
        first, end = group.rows * part // parts, group.rows * (part + 1) // parts
        share = group.bytes * (part + 1) // parts - group.bytes * part // parts
        yield (index,), first, end - first, share
