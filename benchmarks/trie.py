"""How much of some prompts an endless prefix cache would find: the bound for any order of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_Block = tuple[int, ...]


@dataclass(slots=True)
class _Node:
    below: dict[_Block, _Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reuse:
    """Tokens of all prompts, and those of them that a cache without end would have."""

    prompt_tokens: int
    cached_tokens: int

    @property
    def share(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def endless_cache(prompts: Iterable[Sequence[int]], block_size: int) -> Reuse:
    """What is found of `prompts`, asked one after the other, when nothing is ever forgotten.

    vLLM's cache holds whole blocks, known by all tokens up to their end, and computes at least the
    last token of every prompt (`KVCacheManager.get_computed_blocks`), so that is counted here too.
    Raises `ValueError` for a `block_size` under 1.
    """
    if block_size < 1:
        raise ValueError(f"a block of {block_size} tokens holds nothing")
    root = _Node()
    tokens = cached = 0
    for prompt in prompts:
        tokens += len(prompt)
        may_be_found = max(0, len(prompt) - 1) // block_size
        node, known = root, True
        for n in range(len(prompt) // block_size):
            block = tuple(prompt[n * block_size : (n + 1) * block_size])
            known = known and block in node.below
            if known and n < may_be_found:
                cached += block_size
            node = node.below.setdefault(block, _Node())
    return Reuse(tokens, cached)
