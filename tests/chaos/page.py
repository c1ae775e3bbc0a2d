"""The campaign as a page: `benchmarks/CHAOS.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import psutil

from tests.chaos.outcome import Outcome
from tests.chaos.report import sheets

_HEAD = """\
# Chaos

Measured {date} with `{how}`. {machine}

Real `spotmill run --no-prefect` supervisors with their worker processes, the scripted engine, and a
real S3 API behind a proxy with bad weather; then real vLLM, then a Prefect server. One seed fixes
what is done and in which order; real time makes no two campaigns equal to the bit. Kills at a
request are exact: the proxy holds `checkpoint, not yet made` back from the store, and keeps the
answer of `checkpoint, made` from its sender, who is killed in both cases.
"""

_FOOT = """\
Rows are compared, with DuckDB and in every column, with those of a run that nobody disturbed.
`chaos-*-announced` is the run whose losses were all announced by SIGTERM.

*Decoded* is what engines counted in files that outlive them (`engines/counter.py`). *After the last
record* is what killed workers decoded after their last beat or checkpoint, which no store can know.
*Missing* is decoded - published - wasted - after the last record: 0 in exact books. *Worst kill* is
what one worker had decoded beyond its last checkpoint, in runs whose store was never away; an
interval is what its full window decodes between two checkpoints.
"""


def page(outcomes: Sequence[Outcome], how: str) -> str:
    lines = [_HEAD.format(date=datetime.now(UTC).date(), how=how, machine=_machine())]
    for sheet in sheets(outcomes):
        lines += [f"## {sheet.title}", "", _line(sheet.headings)]
        lines += [_line(["---"] * len(sheet.headings)), *(_line(row) for row in sheet.rows), ""]
    lines += [_FOOT, "## Notes", ""]
    lines += [f"- {outcome.name}: {note}" for outcome in outcomes for note in outcome.notes]
    return "\n".join([*lines, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Machine: {os.cpu_count()} shared {platform.machine()} cores, {memory:.0f} GiB of memory, "
        f"no GPU; load average {os.getloadavg()[0]:.1f} at the end."
    )
