"""Many shards in little memory: a plan may hold a million of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from pipeline.core.shards import FileVersion, Shard


class ShardList(Sequence[Shard]):
    """Shards kept as columns of numbers, some 50 bytes each. A `Shard` is made when one is asked
    for, so that equal ones need not be the same object. Never changes once made."""

    def __init__(self, shards: Iterable[Shard] = ()) -> None:
        self.versions: list[FileVersion] = []
        """What the shards are cut from; a file comes twice if others came in between."""
        self.ids = array("q")
        self.file_of = array("q")
        self.first_rows = array("q")
        self.row_counts = array("q")
        self.byte_counts = array("q")
        self.groups = array("i")
        self.group_ends = array("q")
        for shard in shards:
            self._append(shard)

    @classmethod
    def of(cls, shards: Iterable[Shard]) -> ShardList:
        """These shards, without a copy where they are such a list already."""
        return shards if isinstance(shards, cls) else cls(shards)

    @property
    def rows(self) -> int:
        return sum(self.row_counts)

    @property
    def bytes(self) -> int:
        return sum(self.byte_counts)

    @property
    def largest_rows(self) -> int:
        return max(self.row_counts, default=0)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Shard: ...

    @overload
    def __getitem__(self, index: slice) -> list[Shard]: ...

    def __getitem__(self, index: int | slice) -> Shard | list[Shard]:
        if isinstance(index, slice):
            return [self._shard(i) for i in range(*index.indices(len(self)))]
        return self._shard(range(len(self))[index])

    def __iter__(self) -> Iterator[Shard]:
        return map(self._shard, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _append(self, shard: Shard) -> None:
        version = FileVersion(shard.uri, shard.etag, shard.size)
        if not self.versions or self.versions[-1] != version:
            self.versions.append(version)
        self.ids.append(shard.id)
        self.file_of.append(len(self.versions) - 1)
        self.first_rows.append(shard.first_row)
        self.row_counts.append(shard.rows)
        self.byte_counts.append(shard.bytes)
        self.groups.extend(shard.row_groups)
        self.group_ends.append(len(self.groups))

    def _shard(self, index: int) -> Shard:
        file = self.versions[self.file_of[index]]
        first_group = self.group_ends[index - 1] if index else 0
        return Shard(
            id=self.ids[index],
            uri=file.uri,
            etag=file.etag,
            size=file.size,
            row_groups=tuple(self.groups[first_group : self.group_ends[index]]),
            first_row=self.first_rows[index],
            rows=self.row_counts[index],
            bytes=self.byte_counts[index],
        )
