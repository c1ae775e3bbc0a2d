"""Rows that share long beginnings, shuffled, with a cache that holds a few of them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, Record, Target, ratios, spread
from benchmarks.lent import lend
from benchmarks.setting import Setting
from benchmarks.trie import endless_cache
from benchmarks.workload import Rows, prefixed_texts, write_rows

_CACHE_TOKENS_A_BEGINNING = 320
_LETTERS, _TAIL_LETTERS = 1_900, 200
_MOST = 16


def measure(setting: Setting) -> Iterator[Record]:
    prefixes, each = setting.of_size((20, 10), (40, 50), (40, 50))
    pairs = setting.of_size(1, 2, 3)
    with tempfile.TemporaryDirectory() as name:
        sorted_rows, shuffled = _twice(Path(name), prefixes, each)
        # Two thirds of the beginnings, so that nobody can just keep them all.
        cache = prefixes * _CACHE_TOKENS_A_BEGINNING
        blocks = cache // setting.block_size
        small: dict[str, Any] = {"num_gpu_blocks_override": blocks}
        lent = lend(setting, **small)
        few = 50
        warm = replace(
            sorted_rows, texts=sorted_rows.texts[:few], max_tokens=sorted_rows.max_tokens[:few]
        )
        lent.bare(warm)
        tokens = lent.tokens_of(sorted_rows.prompts)
        bound = endless_cache(tokens, setting.block_size)
        ours, by_hand = [], []
        for n in range(pairs):
            job = shuffled.job_file(setting, f"pair-{n}", shards=1, **small)
            if n % 2:
                ours.append(lent.worker(job, f"pair-{n}"))
            by_hand.append(lent.bare(sorted_rows))
            if not n % 2:
                ours.append(lent.worker(job, f"pair-{n}"))
        unsorted = lent.bare(shuffled)
        what = (
            f"{len(tokens)} rows of {prefixes} beginnings, {bound.prompt_tokens / len(tokens):.0f} "
            f"tokens a prompt, a cache of {cache} tokens; one shard"
        )
        yield spread(
            "order.by-hand",
            "shuffled through spotmill / sorted by hand through bare vLLM",
            ratios([run.rows / run.seconds for run in ours], [r.rows / r.seconds for r in by_hand]),
            f"rows a second; {what}",
            target=Target(1.0),
        )
        yield spread(
            "order.shuffled",
            "shuffled through spotmill / shuffled through bare vLLM",
            [unsorted.seconds / run.seconds for run in ours],
            "rows a second, what the order is worth; bare measured once",
        )
        yield spread(
            "order.bound",
            "prefix hits of spotmill / an endless cache's",
            [run.hits / bound.share for run in ours],
            f"cached share of prompt tokens, by rows; the trie of prompts allows {bound.share:.3f} "
            f"in blocks of {setting.block_size}",
            target=Target(0.95),
        )
        for key, title, hits in (
            ("spotmill", "prefix hits, shuffled through spotmill", [run.hits for run in ours]),
            ("sorted", "prefix hits, sorted through bare vLLM", [run.hits for run in by_hand]),
            ("bare", "prefix hits, shuffled through bare vLLM", [unsorted.hits]),
        ):
            yield spread(f"order.hits-{key}", title, hits, "cached tokens / prompt tokens")
        yield Figure(
            "order.endless",
            "prefix hits of an endless cache",
            bound.share,
            "worked out from the trie of blocks, not measured",
        )


def _twice(folder: Path, prefixes: int, each: int) -> tuple[Rows, Rows]:
    """The same rows, beginning by beginning and shuffled."""
    texts = prefixed_texts(prefixes, each, _LETTERS, _TAIL_LETTERS)
    mixed = list(texts)
    random.Random(1).shuffle(mixed)
    most = [_MOST] * len(texts)
    for name in ("sorted", "shuffled"):
        (folder / name).mkdir()
    return (
        write_rows(folder / "sorted", texts, most),
        write_rows(folder / "shuffled", mixed, most),
    )
