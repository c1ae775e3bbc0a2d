"""Replays one seed, or tries many: `python -m tests.simulation --seed 7 --trace`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.campaign import be_quiet, failings, failures, replay, tell
from tests.simulation.night import night


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay this night")
    what.add_argument("--seeds", type=_range, metavar="A-B", help="try all from A to B")
    parser.add_argument("--trace", action="store_true", help="show every call and every blow")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    asked = parser.parse_args()
    be_quiet()
    if asked.seed is not None:
        return _show(asked.seed, asked.trace)
    return _try(asked.seeds, asked.jobs)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


def _show(seed: int, trace: bool) -> int:
    tonight = night(seed)
    tell(tonight.in_words())
    found = failings(tonight, _tell_event if trace else None)
    for sentence in found or ["every invariant holds"]:
        tell(sentence)
    return 1 if found else 0


def _tell_event(now: float, process: str, verb: str, key: str, outcome: str) -> None:
    tell(f"{now:10.3f}  {process:13} {verb:7} {key}  {outcome}")


def _try(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    failed = 0
    for seed, found in failures(seeds, jobs):
        failed += 1
        tell(f"seed {seed} fails; to see it again: {replay(seed)}")
        for sentence in found:
            tell(f"    {sentence}")
    seconds = time.monotonic() - began
    pace = len(seeds) / seconds * 3_600
    tell(f"{len(seeds)} seeds in {seconds:.0f} s ({pace:,.0f} an hour), {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
