"""What the rows of a shard ask, so that their order can be decided (decision 013)."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core.errors import RowRejected
from pipeline.core.order import Arrangement, Asked, arrange, text_of
from pipeline.core.poison import condemned
from pipeline.held import HeldShard

# Who leads those that ask the same. Only from the third on, rows are to be admitted.
_DONE, _SPOKEN_FOR, _BEGUN, _NEW = range(4)


def arranged(shard: HeldShard, stretch: Sequence[int]) -> Arrangement:
    """In which order to admit these rows. Changes nothing, so it may run in another thread."""
    asked = (_asked(shard, row) for row in stretch)
    return arrange((one for one in asked if one is not None), _BEGUN)


def _asked(shard: HeldShard, row: int) -> Asked | None:
    rank = _rank(shard, row)
    if rank is None:
        return None
    try:
        return Asked(row, text_of(shard.rows.prompt(row)), shard.rows.sampling(row), rank)
    except RowRejected:
        return Asked(row, rank=rank)


def _rank(shard: HeldShard, row: int) -> int | None:
    if row in shard.finished:
        # An error may be the row's own bad luck, unless the row was condemned.
        answered = shard.finished[row].error is None
        worth_copying = answered or row in condemned(shard.strikes)
        return _DONE if worth_copying else None
    if row in shard.spoken_for:
        return _SPOKEN_FOR
    return _BEGUN if row in shard.so_far else _NEW
