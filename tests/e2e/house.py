"""Running spotmill as its users do: as commands, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.stores.options import StoreOptions, arrow_filesystem

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_data"
_PATIENCE_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Said:
    """What a command answered."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.stdout)
        return loaded


def spotmill(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=patience_seconds,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@contextmanager
def started(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes on beside the test; killed with its whole group at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what: Callable[[], bool], seconds: float, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s: {why}"
        time.sleep(0.1)


def job_file(path: Path, **sections: Any) -> Path:
    path.write_text(yaml.safe_dump(sections))
    return path


def scripted(**settings: float) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in settings.items())
    return {"id": f"scripted://?{query}"}


def questions(rows: int) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "question": [f"question {row} of the night shift" for row in range(rows)],
            "lang": [("en", "de", None)[row % 3] for row in range(rows)],
        }
    )


def write(table: pa.Table, uri: str, row_group_size: int = 50) -> None:
    fs, path = arrow_filesystem(uri, StoreOptions())
    if "://" not in uri:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, filesystem=fs, row_group_size=row_group_size)


def published(output_uri: str, run_id: str) -> pa.Table:
    """Everything under data/ of a run, in the order of its parts."""
    fs, path = arrow_filesystem(f"{output_uri.rstrip('/')}/data/run={run_id}", StoreOptions())
    return pq.read_table(path, filesystem=fs, partitioning=None)
