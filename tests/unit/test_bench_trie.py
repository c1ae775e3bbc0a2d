"""The bound of prefix reuse, against a cache that really never forgets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.trie import Reuse, endless_cache

_prompts = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=12)


def _simulated(prompts: list[list[int]], block: int) -> int:
    """Blocks known by all the tokens up to their end, as vLLM's hashes know them."""
    known: set[tuple[int, ...]] = set()
    found = 0
    for prompt in prompts:
        ends = range(block, len(prompt) + 1, block)
        for end in ends:
            if end > len(prompt) - 1 or tuple(prompt[:end]) not in known:
                break
            found += block
        known.update(tuple(prompt[:end]) for end in ends)
    return found


@given(prompts=_prompts, block=st.integers(1, 4))
def test_the_trie_finds_what_an_endless_cache_finds(prompts: list[list[int]], block: int) -> None:
    reuse = endless_cache(prompts, block)
    assert reuse == Reuse(sum(map(len, prompts)), _simulated(prompts, block))
    assert 0 <= reuse.share < 1 or not prompts


@given(prompts=_prompts, block=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_order_changes_the_bound_by_last_blocks_alone(
    prompts: list[list[int]], block: int, seed: int
) -> None:
    mixed = list(prompts)
    random.Random(seed).shuffle(mixed)
    least = endless_cache(prompts, block).cached_tokens
    other = endless_cache(mixed, block).cached_tokens
    ending_on_a_block = sum(len(p) % block == 0 for p in prompts if p)
    assert abs(least - other) <= block * ending_on_a_block


def test_blocks_are_shared_whole_or_not_at_all() -> None:
    prompts = [[1, 2, 3, 4, 5], [1, 2, 3, 9, 9], [1, 2, 3, 4, 5]]
    # The second finds [1, 2]; the third finds [1, 2] and [3, 4], but computes its last token.
    assert endless_cache(prompts, 2) == Reuse(15, 2 + 4)
    assert endless_cache([[1, 2], [1, 2]], 2) == Reuse(4, 0)
    assert endless_cache([], 16).share == 0.0


def test_a_block_holds_something() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        endless_cache([[1]], 0)
