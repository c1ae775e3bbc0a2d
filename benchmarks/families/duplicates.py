"""Rows that occur four times, greedy: bare vLLM generates each of them, a batch need not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Record, Target, ratios, spread
from benchmarks.lent import lend
from benchmarks.setting import Setting
from benchmarks.workload import repeated_rows

_TIMES = 4


def measure(setting: Setting) -> Iterator[Record]:
    distinct = setting.rows(150, 500, 1_000)
    pairs = setting.of_size(1, 4, 6)
    with tempfile.TemporaryDirectory() as name:
        rows = repeated_rows(Path(name), distinct, _TIMES)
        lent = lend(setting)
        lent.bare(rows)
        ours, bare = [], []
        for n in range(pairs):
            job = rows.job_file(setting, f"pair-{n}", shards=1)
            if n % 2:
                ours.append(lent.worker(job, f"pair-{n}"))
            bare.append(lent.bare(rows))
            if not n % 2:
                ours.append(lent.worker(job, f"pair-{n}"))
        yield spread(
            "duplicates.ratio",
            "spotmill / bare vLLM",
            ratios([run.rows / run.seconds for run in ours], [r.rows / r.seconds for r in bare]),
            f"rows a second; {distinct} tickets, each {_TIMES} times, shuffled in one shard; "
            f"{ours[0].rows} rows answered by both",
            target=Target(1.0),
        )
