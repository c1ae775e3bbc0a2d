"""Replays recorded spot fleets and tells their goodput: `python -m tests.simulation.replay`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.simulation.campaign import be_quiet, tell
from tests.simulation.goodput_page import page, row, table
from tests.simulation.outcome import Outcome
from tests.simulation.replayed import Replay
from tests.simulation.traces import Lifetime, SpotTrace, read_columns, read_counts, read_events

NOTICES = (None, 30.0, 120.0)
TARGET_RATE = 0.6
_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "benchmarks" / "GOODPUT.md"
_V100 = "skynomad/data/real/availability/2023-02-15/processed"
_DAY = 86_400.0
_SCARCE = "p3 at 0.6, 150 min, every 3rd, shards scarce"

CATALOGUE: Mapping[str, Callable[[Path], SpotTrace]] = {
    "p3 at 0.6": lambda at: _p3(at).at_rate(TARGET_RATE),
    "g4dn at 0.6": lambda at: _g4dn(at).at_rate(TARGET_RATE),
    # As recorded; of large fleets every n-th life, of long records the first days.
    "p3, every 5th": lambda at: _p3(at).every(5),
    "g4dn, every 3rd": lambda at: _g4dn(at).every(3),
    "gcloud v100, every 64th": lambda at: _gcloud(at, "v100x1-east1c").every(64),
    "gcloud a100, every 48th": lambda at: _gcloud(at, "a100x1-east1b").every(48),
    "aws v100, 36 h, every 2nd": lambda at: _aws_v100(at).between(0.0, 1.5 * _DAY).every(2),
    "gcp h100, 24 h, every 8th": lambda at: _gcp_h100(at).between(0.0, _DAY).every(8),
    _SCARCE: lambda at: _p3(at).between(3_600.0, 12_600.0).every(3).at_rate(TARGET_RATE),
}
"""From a folder of traces to each of those this replays, by the name it has in the table."""


def traces_folder(given: Path | None = None) -> Path | None:
    """The folder asked for, else `SPOTMILL_TRACES`, else `../shared/traces` beside the checkout;
    None where there is none."""
    if given is not None:
        return given
    named = os.environ.get("SPOTMILL_TRACES")
    folder = Path(named) if named else _ROOT.parent / "shared" / "traces"
    return folder if folder.is_dir() else None


def _p3(folder: Path) -> SpotTrace:
    return read_events(folder / "bamboo/traces/p3-trace.csv")


def _g4dn(folder: Path) -> SpotTrace:
    return read_events(folder / "bamboo/traces/g4dn-trace.csv")


def _gcloud(folder: Path, zone: str) -> SpotTrace:
    return read_counts(folder / f"bamboo/traces/gcloud/{zone}.txt")


def _gcp_h100(folder: Path) -> SpotTrace:
    """How many of sixteen asked for could be had in one zone, taken for how many were up."""
    return read_columns(folder / "skynomad/h100_16_counts_10min.csv", "", ("us-central1-b",))


def _aws_v100(folder: Path) -> SpotTrace:
    """Nine zones, each with one node whenever the market had one."""
    lives: list[Lifetime] = []
    end = 0.0
    for zone in sorted((folder / _V100).glob("*.csv")):
        found = read_columns(zone, "", ("availability",))
        lives += found.lives
        end = max(end, found.end)
    return SpotTrace("", tuple(sorted(lives, key=lambda life: life.added)), end)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.replay", description=__doc__)
    parser.add_argument("--traces", type=Path, help="default: $SPOTMILL_TRACES, ../shared/traces")
    parser.add_argument("--only", choices=list(CATALOGUE), action="append", help="some of them")
    parser.add_argument("--write", action="store_true", help="write benchmarks/GOODPUT.md")
    asked = parser.parse_args()
    folder = traces_folder(asked.traces)
    if folder is None:
        tell("no traces: give --traces DIR, or set SPOTMILL_TRACES")
        return 2
    be_quiet()
    # Millions of small objects that live for hours: not to be looked through all the time.
    gc.set_threshold(50_000, 20, 100)
    outcomes = list(_outcomes(folder, asked.only or list(CATALOGUE)))
    tell("\n".join(table(outcomes)))
    if asked.write:
        today = datetime.now(UTC).date().isoformat()
        _PAGE.write_text(page(outcomes, today, "make goodput"))
    return 0


def _outcomes(folder: Path, names: Sequence[str]) -> Iterator[Outcome]:
    for name in names:
        trace = replace(CATALOGUE[name](folder), name=name)
        for notice in NOTICES:
            outcome = Replay(trace, notice, scarce=name == _SCARCE).run()
            tell(row(outcome))
            yield outcome


if __name__ == "__main__":
    sys.exit(main())
