"""How many quiet nights are told of, and how soon dear ones are: the tables of
docs/decisions/023. `python -m tests.simulation.quiet_page` prints them, in some minutes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from statistics import median

from tests.simulation.quiet_nights import Fleet, Trouble, told_in_nights

LOADS = (60.0, 300.0, 420.0)
PREEMPTED = (0.0, 0.25, 0.5)
WORKERS = (1, 2, 4, 8)
TROUBLES = {
    "dearer price": Trouble(2, price=1.6),
    "dearer zone": Trouble(0, price=1.6, zone="b"),
    "lower throughput": Trouble(2, slow=1.6),
    "longer prompts": Trouble(2, prompts=6.0),
    "acceptance fell": Trouble(2, step=1.6),
    "more preemptions": Trouble(2, preempted=12.0),
    "slower starts": Trouble(2, load=12.0),
}
"""By the cause that is to be named."""


def quiet(nights: int) -> Iterator[str]:
    yield f"| workers | preempted an hour | {' | '.join(f'{load:.0f} s' for load in LOADS)} |"
    yield "|---:|---:|---:|---:|---:|"
    for workers in WORKERS:
        for preempted in PREEMPTED:
            fleets = [Fleet(workers, preempted, load) for load in LOADS]
            told = [sum(map(bool, told_in_nights(fleet, nights))) for fleet in fleets]
            yield f"| {workers} | {preempted} | {' | '.join(map(str, told))} |"


def dear(nights: int) -> Iterator[str]:
    yield f"| cause | {' | '.join(map(str, WORKERS))} |"
    yield "|---|---:|---:|---:|---:|"
    for cause, trouble in TROUBLES.items():
        cells = [_soon(Fleet(workers, 0.5, 300.0), trouble, cause, nights) for workers in WORKERS]
        yield f"| {cause} | {' | '.join(cells)} |"


def _soon(fleet: Fleet, trouble: Trouble, cause: str, nights: int) -> str:
    found = told_in_nights(fleet, nights, trouble)
    minutes = sorted(one.minutes for one in found if one and one.cause == cause)
    often = "" if len(minutes) == nights else f" ({len(minutes)} of {nights})"
    return f"{median(minutes):.0f} to {minutes[-1]:.0f}{often}" if minutes else "never"


def main(nights: int = 30) -> None:
    logging.disable(logging.CRITICAL)
    for table in (quiet, dear):
        for line in table(nights):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
