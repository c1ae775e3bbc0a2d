"""What a worker's books cost it: everything that counts seconds, tokens and money, and tells them.

They cannot be left out, so there is no run without them to compare with. Their processor time, on
the engine's thread and beside it, bounds what they cost: at worst the engine waits for all of it.
Beats are in it whole, though a worker without books would beat as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.checkpointing import EVERY_5_SECONDS
from benchmarks.figure import Figure, Record, Target
from benchmarks.lent import lend
from benchmarks.setting import Setting
from benchmarks.spent import Spent
from benchmarks.workload import ticket_rows
from pipeline.allowance import AllowanceNotice
from pipeline.beats import Beats
from pipeline.feed import Feed
from pipeline.ledger import Ledger
from pipeline.prices import PriceWatch
from pipeline.repricing import Repricing
from pipeline.session_ledger import SessionLedger
from pipeline.timesheet import Timesheet

_KEEPS_BOOKS = (
    *((Timesheet, name) for name in ("pass_to", "settle", "reprice", "write_off")),
    *((Feed, name) for name in ("settle", "accounts", "reprice")),
    *((Beats, name) for name in ("beat_when_due", "_beside", "own_up", "end")),
    *((SessionLedger, name) for name in ("beat", "end")),
    (Ledger, "allowance"),
    (AllowanceNotice, "look"),
    (Repricing, "look_after"),
    (PriceWatch, "_once"),
)


def measure(setting: Setting) -> Iterator[Record]:
    rows, runs = setting.rows(600, 3_000, 6_000), setting.of_size(1, 3, 5)
    with tempfile.TemporaryDirectory() as folder:
        load = ticket_rows(Path(folder), rows, mixed=False)
        lent = lend(setting)
        lent.worker(load.job_file(setting, "warm", EVERY_5_SECONDS), "warm")
        spent, shares, seconds = Spent(), [], []
        for owner, method in _KEEPS_BOOKS:
            spent.on(owner, method)
        for n in range(runs):
            before = spent.seconds
            answered = lent.worker(load.job_file(setting, f"run-{n}", EVERY_5_SECONDS), f"run-{n}")
            seconds.append(answered.engine_seconds)
            shares.append(100 * (spent.seconds - before) / answered.engine_seconds)
    yield Figure(
        "accounting.processor",
        "processor time that the books took",
        median(shares),
        f"of the seconds in which the engine had requests, {median(seconds):.0f} a run of "
        f"{rows} tickets; every beat and every look at prices in it",
        unit="%",
        low=min(shares),
        high=max(shares),
        samples=runs,
        target=Target(0.2, at_least=False),
    )
