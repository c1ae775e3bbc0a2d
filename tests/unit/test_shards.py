"""Every row is in exactly one shard, in order, and no shard is too large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.shards import InputFile, RowGroup, Shard, plan_shards
from tests.unit.strategies import bounded

row_groups = st.builds(RowGroup, st.integers(0, 40), st.integers(0, 10_000))
limits = st.integers(1, 25)


@st.composite
def datasets(draw: st.DrawFn) -> list[InputFile]:
    groups = draw(st.lists(st.lists(row_groups, max_size=8), max_size=5))
    return [
        InputFile(f"f{number}.parquet", f"etag-{number}", 100 + number, tuple(of_file))
        for number, of_file in enumerate(groups)
    ]


def rows_of(shard: Shard, file: InputFile) -> list[tuple[str, int]]:
    """The shard's rows, as file and index in the file."""
    starts = [0]
    for group in file.row_groups:
        starts.append(starts[-1] + group.rows)
    of_groups = [
        row for index in shard.row_groups for row in range(starts[index], starts[index + 1])
    ]
    return [(file.uri, row) for row in of_groups[shard.first_row : shard.first_row + shard.rows]]


@bounded
@given(datasets(), limits)
def test_every_row_is_in_one_shard_in_order(files: list[InputFile], limit: int) -> None:
    by_uri = {file.uri: file for file in files}
    shards = list(plan_shards(files, limit))
    planned = [row for shard in shards for row in rows_of(shard, by_uri[shard.uri])]
    assert planned == [(file.uri, row) for file in files for row in range(file.rows)]


@bounded
@given(datasets(), limits)
def test_shards_are_numbered_bounded_and_of_one_file(files: list[InputFile], limit: int) -> None:
    by_uri = {file.uri: file for file in files}
    shards = list(plan_shards(files, limit))
    assert [shard.id for shard in shards] == list(range(len(shards)))
    for shard in shards:
        file = by_uri[shard.uri]
        assert 1 <= shard.rows <= limit
        assert len(rows_of(shard, file)) == shard.rows
        assert (shard.etag, shard.size) == (file.etag, file.size)
        assert list(shard.row_groups) == sorted(set(shard.row_groups))
        # Only a part of one large row group begins inside it.
        assert shard.first_row == 0 or len(shard.row_groups) == 1


@bounded
@given(datasets(), limits)
def test_shares_of_bytes_sum_to_the_files_bytes(files: list[InputFile], limit: int) -> None:
    whole = sum(group.bytes for file in files for group in file.row_groups if group.rows)
    assert sum(shard.bytes for shard in plan_shards(files, limit)) == whole


@bounded
@given(datasets(), limits)
def test_the_same_files_give_the_same_shards(files: list[InputFile], limit: int) -> None:
    assert list(plan_shards(files, limit)) == list(plan_shards(list(files), limit))


@bounded
@given(st.integers(1, 10_000), limits)
def test_parts_of_a_large_row_group_differ_by_one_row_at_most(rows: int, limit: int) -> None:
    file = InputFile("f", "e", 1, (RowGroup(rows, 1),))
    sizes = [shard.rows for shard in plan_shards([file], limit)]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-rows // limit)


def test_whole_row_groups_go_together_while_they_fit() -> None:
    file = InputFile("f", "e", 9, tuple(RowGroup(n, n) for n in (4, 6, 0, 1, 25, 3)))
    shards = list(plan_shards([file], 10))
    assert [(s.row_groups, s.first_row, s.rows) for s in shards] == [
        ((0, 1), 0, 10),
        ((3,), 0, 1),
        ((4,), 0, 8),
        ((4,), 8, 8),
        ((4,), 16, 9),
        ((5,), 0, 3),
    ]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_row_is_a_mistake(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(plan_shards([], limit))
