"""`make chaos`: real processes killed with real signals, hundreds of times, and nothing lost."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from rich.console import Console

from tests.chaos.field import Field, battlefield
from tests.chaos.outcome import Outcome
from tests.chaos.page import page
from tests.chaos.prefect_runs import fight_with_prefect
from tests.chaos.report import document, show
from tests.chaos.schedule import announced, campaign
from tests.chaos.vllm_run import fight_with_vllm
from tests.e2e.house import ROOT

CHAOS_MD = ROOT / "benchmarks" / "CHAOS.md"
PARTS = ("unannounced", "announced", "vllm", "prefect")
said = Console(stderr=True)


def fight(field: Field, options: argparse.Namespace) -> Iterator[Outcome]:
    """Every part that was asked for, run by run."""
    if "unannounced" in options.parts:
        yield from unannounced(field, options)
    if "announced" in options.parts:
        yield announced_losses(field, options)
    if "vllm" in options.parts:
        yield fight_with_vllm(field)
    if "prefect" in options.parts:
        yield from fight_with_prefect(field)


def unannounced(field: Field, options: argparse.Namespace) -> Iterator[Outcome]:
    """Runs of the campaign, a few at a time, until there were enough kills."""
    plans = islice(campaign(options.seed, options.outage_seconds), options.first, None)
    killed = 0
    with ThreadPoolExecutor(options.lanes) as lanes:
        away: set[Future[Outcome]] = set()
        while killed < options.kills or away:
            while killed < options.kills and len(away) < options.lanes:
                away.add(lanes.submit(field.fight, next(plans)))
            over, away = wait(away, return_when=FIRST_COMPLETED)
            for future in over:
                outcome = future.result()
                if options.exact_books and outcome.books and outcome.books.missing:
                    outcome.faults.append(f"the manifest misses {outcome.books.missing} tokens")
                killed += outcome.killed
                yield outcome


def announced_losses(field: Field, options: argparse.Namespace) -> Outcome:
    """Nothing may be decoded twice when every loss is announced."""
    plan = announced(options.seed, options.notices)
    outcome = field.fight(plan)
    outcome.faults += field.bad_ends(plan)
    books = outcome.books
    if books and (books.decoded != books.published or books.wasted):
        outcome.faults.append(
            f"{books.decoded} tokens decoded for {books.published}, {books.wasted} wasted on record"
        )
    return outcome


def main() -> int:
    options = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="spotmill-chaos-"))
    outcomes: list[Outcome] = []
    began = time.monotonic()
    try:
        with battlefield(folder) as field:
            for outcome in fight(field, options):
                outcomes.append(outcome)
                verdict = "; ".join(outcome.faults) or "sound"
                line = f"{outcome.name}: {outcome.killed} kills, {outcome.seconds:.0f} s, {verdict}"
                said.print(f"{time.monotonic() - began:5.0f} s  {line}", highlight=False)
    except Exception:
        said.print(traceback.format_exc(), markup=False)
        outcomes.append(Outcome("campaign", 0.0, faults=["stopped by an error of its own"]))
    show(outcomes)
    if options.json:
        options.json.write_text(json.dumps(document(outcomes), indent=1))
    if options.write:
        CHAOS_MD.write_text(page(outcomes, _how(options)))
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    if faults:
        said.print(f"{len(faults)} faults; the runs' logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _how(options: argparse.Namespace) -> str:
    return f"python -m tests.chaos --kills {options.kills} --seed {options.seed}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at least, without a notice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="first run, to repeat one")
    parser.add_argument("--lanes", type=int, default=2, help="runs at a time")
    parser.add_argument("--notices", type=int, default=30, help="of the announced part")
    parser.add_argument("--outage-seconds", type=float, default=60.0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, help="write every figure there")
    parser.add_argument("--write", action="store_true", help=f"write {CHAOS_MD.name}")
    parser.add_argument(
        "--exact-books", action="store_true", help="tokens a manifest misses are faults"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
