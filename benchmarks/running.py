"""Runs families one after the other, each a process, and takes what each one could measure."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import child
from benchmarks.child import ChildFailed
from benchmarks.families import FAMILIES, Family
from benchmarks.figure import Failure, FamilyResult, Record, record_from_json
from benchmarks.setting import Setting


def run_families(families: Sequence[Family], setting: Setting) -> Iterator[FamilyResult]:
    """One result for each, whatever becomes of it."""
    for family in families:
        print(f"==> {family.title}", flush=True)
        yield run_family(family, setting)


def run_family(family: Family, setting: Setting) -> FamilyResult:
    """What was measured before a failure is kept, and the failure is one more record."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "records.jsonl"
        command = child.module(
            "benchmarks.running", family.name, json.dumps(setting.to_json()), path
        )
        failures = []
        try:
            child.run(command, child.environment(setting.device), family.seconds)
        except ChildFailed as problem:
            failures.append(Failure(family.name, str(problem)))
        records = read_records(path)
    return FamilyResult(family.name, time.monotonic() - began, (*records, *failures))


def read_records(path: Path) -> list[Record]:
    """Every whole line of the file; a process that was killed may have left a torn one."""
    records: list[Record] = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                records.append(record_from_json(json.loads(line)))
            except (ValueError, TypeError):
                break
    return records


def write_records(family: Family, setting: Setting, path: Path) -> int:
    """Measure here, in this process; the exit code."""
    try:
        with path.open("w") as lines:
            for record in family.measure()(setting):
                lines.write(json.dumps(record.to_json()) + "\n")
                lines.flush()
    except Exception:
        # Its last lines are what the failure is told with, so the words come last.
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    name, setting, path = sys.argv[1:]
    family = next(family for family in FAMILIES if family.name == name)
    code = write_records(family, Setting.from_json(json.loads(setting)), Path(path))
    sys.stderr.flush()
    # An engine in this process takes seconds to take itself apart.
    os._exit(code)


if __name__ == "__main__":
    main()
