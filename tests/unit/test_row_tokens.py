"""What rows differ by, and what shards do: two things, that make a short run unsure in two ways."""

from __future__ import annotations

import random
from statistics import pvariance, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.past import PastRun
from pipeline.core.row_tokens import ShardTokens, row_spread_of, row_tokens, spreads_of
from tests.unit.strategies import bounded

lengths = st.lists(st.integers(0, 500), min_size=2, max_size=20)


def tokens_of(shards: list[list[int]]) -> list[ShardTokens]:
    return [ShardTokens(len(s), sum(s), sum(one**2 for one in s)) for s in shards]


def drawn(apart: float, shards: int = 40, rows: int = 500) -> list[ShardTokens]:
    """Lengths around 100 that differ by 30, in shards whose means differ by a share of that."""
    dice = random.Random(2)
    found = []
    for _ in range(shards):
        centre = 100 * (1 + dice.gauss(0.0, apart))
        found.append([max(0, round(dice.gauss(centre, 30))) for _ in range(rows)])
    return tokens_of(found)


@bounded
@given(lengths)
def test_of_one_shard_rows_differ_by_what_they_do(shard: list[int]) -> None:
    of_row, of_shard = spreads_of(tokens_of([shard]))
    assert of_row == pytest.approx(variance(shard) ** 0.5)
    assert of_shard == 0


@bounded
@given(st.lists(lengths, min_size=2, max_size=6))
def test_what_rows_and_shards_differ_by_is_all_there_is(shards: list[list[int]]) -> None:
    of_row, of_shard = spreads_of(tokens_of(shards))
    assert of_row is not None
    every = [one for shard in shards for one in shard]
    within = sum(len(shard) * pvariance(shard) for shard in shards)
    assert of_row**2 * (len(every) - len(shards)) == pytest.approx(within, abs=1e-6)
    assert of_shard >= 0
    if len({sum(shard) / len(shard) for shard in shards}) == 1:
        assert of_shard == 0


def test_shards_that_differ_are_not_taken_for_rows_that_do() -> None:
    of_row, of_shard = spreads_of(drawn(0.2))
    assert of_row == pytest.approx(30, rel=0.05)
    assert of_shard == pytest.approx(20, rel=0.3)
    even, none = spreads_of(drawn(0.0))
    assert even == pytest.approx(30, rel=0.05)
    assert none < 2


def test_rows_of_their_own_shards_tell_nothing() -> None:
    assert spreads_of(tokens_of([[3], [5]])) == (None, 0.0)
    assert spreads_of([]) == (None, 0.0)


def test_the_spread_of_rows_is_told_by_shards_they_were_dealt_to() -> None:
    dice = random.Random(3)
    shards = []
    for _ in range(400):
        rows = [dice.lognormvariate(4.0, 0.6) for _ in range(30)]
        shards.append((len(rows), round(sum(rows))))
    # The standard deviation of a lognormal figure with these two.
    assert row_spread_of(shards) == pytest.approx(43.1, rel=0.1)
    assert row_spread_of(shards[:1]) is None


def test_a_short_run_is_as_unsure_as_one_shard_and_a_long_one_is_not() -> None:
    of_row, of_shard = spreads_of(drawn(0.2))
    run = PastRun("r", 20_000, 20_000, 0, 2_000_000, 0, 0, (), of_row, of_shard, 500)
    known = row_tokens([run])
    assert known is not None
    off = {rows: known.chance(rows) ** 0.5 for rows in (10, 100, 500, 20_000)}
    assert off[10] == pytest.approx((0.2**2 + 0.3**2 / 10) ** 0.5, rel=0.3)
    assert off[100] == pytest.approx(off[500], rel=0.1)
    assert off[20_000] == pytest.approx(0.2 / 40**0.5, rel=0.3)
