"""The rows that figures are measured on, as a dataset for spotmill and as prompts for others."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.setting import MODELS, ROOT, SAMPLE_MODEL, Setting
from sample_data.make_tickets import TEMPLATE, ticket_table, tickets

MAX_TOKENS = 128
SHORTEST = 8
DRAFT = {"method": "draft_model", "model": str(MODELS / "draft"), "num_speculative_tokens": 3}
_SEED = 7_000
_SHARDS = 8
_CHUNKS = 50


@dataclass(frozen=True, slots=True)
class Rows:
    """`texts` fill `template`; each row has a `max_tokens` of its own, and is answered greedily.

    `exact` rows have to be answered with all of their `max_tokens`.
    """

    folder: Path
    texts: tuple[str, ...]
    max_tokens: tuple[int, ...]
    template: str = "{{ body }}"
    exact: bool = False

    @property
    def prompts(self) -> list[str]:
        return [self.template.replace("{{ body }}", text) for text in self.texts]

    def documents(self) -> list[dict[str, Any]]:
        return [
            {"prompt": prompt, "max_tokens": most, "min_tokens": most if self.exact else 0}
            for prompt, most in zip(self.prompts, self.max_tokens, strict=True)
        ]

    def as_json(self) -> Path:
        """A file of `documents`, for other processes."""
        path = self.folder / "rows.json"
        path.write_text(json.dumps(self.documents()))
        return path

    def job_file(
        self,
        setting: Setting,
        name: str,
        chunks: Mapping[str, float] | None = None,
        shards: int = _SHARDS,
        speculative: Mapping[str, Any] | None = None,
        **engine: Any,
    ) -> Path:
        """A job over these rows with its output in `folder/name`. By default it has 8 shards, and
        a checkpoint is due about 50 times, and every 5 seconds."""
        count = len(self.texts)
        limits = ["max_tokens", "min_tokens"] if self.exact else ["max_tokens"]
        chunks = chunks or {"rows": max(1, count // _CHUNKS), "seconds": 5.0}
        job: dict[str, Any] = {
            "name": "bench",
            "input": {"uri": str(self.folder / "rows"), "template": self.template},
            "output": {"uri": str(self.folder / name)},
            "model": setting.job_model(**engine) | {"speculative": dict(speculative or {})},
            "sampling": {
                "temperature": 0.0,
                "max_tokens": MAX_TOKENS,
                "columns": dict.fromkeys(limits, "most"),
            },
            "shards": {"rows": -(-count // shards)},
            "chunks": dict(chunks),
            "fleet": {"workers": 1, "lease_seconds": 20},
        }
        if not speculative:
            job["model"]["speculative"] = "none"
        path = self.folder / f"job-{name}.yaml"
        path.write_text(yaml.safe_dump(job))
        return path


@dataclass(frozen=True, slots=True)
class Workload:
    """The sample job over more tickets than it has."""

    folder: Path
    rows: int

    def job_file(
        self, output: Path, speculate: bool, chunks: Mapping[str, float] | None = None
    ) -> Path:
        """By default a checkpoint is due about 50 times, and every 5 seconds."""
        job: dict[str, Any] = yaml.safe_load((ROOT / "sample_data" / "job.yaml").read_text())
        model = job["model"] | {"id": SAMPLE_MODEL}
        model["speculative"] = DRAFT if speculate else "none"
        job |= {
            "input": job["input"] | {"uri": str(self.folder / "tickets")},
            "output": {"uri": str(output)},
            "model": model,
            "shards": {"rows": -(-self.rows // _SHARDS)},
            "chunks": dict(chunks or {"rows": max(1, self.rows // _CHUNKS), "seconds": 5}),
            "cost": {"prices": str(ROOT / "sample_data" / "prices.yaml")},
        }
        path = self.folder / f"job-{output.name}.yaml"
        path.write_text(yaml.safe_dump(job))
        return path


def make_workload(folder: Path, rows: int, night: int = 0) -> Workload:
    """8 shards and about 50 chunks, whatever the number of rows; each night has tickets of its
    own."""
    (folder / "tickets").mkdir(parents=True)
    table = ticket_table(list(tickets(_SEED + night, rows)))
    pq.write_table(table, folder / "tickets/part-0.parquet", row_group_size=max(1, rows // _SHARDS))
    return Workload(folder, rows)


def ticket_rows(folder: Path, count: int, mixed: bool = True) -> Rows:
    """Support tickets; `mixed` caps their answers at 8 to 128 tokens, drawn once for all."""
    bodies, most = _bodies_and_caps(count)
    return write_rows(folder, bodies, most if mixed else [MAX_TOKENS] * count, TEMPLATE)


def repeated_rows(folder: Path, distinct: int, times: int) -> Rows:
    """Every ticket `times` times with the same cap, shuffled."""
    once = list(zip(*_bodies_and_caps(distinct), strict=True)) * times
    random.Random(_SEED).shuffle(once)
    return write_rows(folder, [body for body, _ in once], [most for _, most in once], TEMPLATE)


def prefixed_texts(prefixes: int, each: int, letters: int, tail_letters: int) -> list[str]:
    """`prefixes` long beginnings with `each` rows apiece, beginning by beginning."""
    bodies = iter(ticket.body for ticket in tickets(_SEED + 1, prefixes * (each + 40)))
    texts = []
    for number in range(prefixes):
        beginning = f"Context {number}.\n"
        while len(beginning) < letters:
            beginning += next(bodies) + "\n"
        beginning = beginning[:letters] + "\n\nTicket:\n"
        texts += [f"{beginning}{next(bodies)[:tail_letters]}\n" for _ in range(each)]
    return texts


def write_rows(
    folder: Path, texts: Sequence[str], max_tokens: Sequence[int], template: str = "{{ body }}"
) -> Rows:
    """One Parquet file of 8 row groups."""
    (folder / "rows").mkdir()
    table = pa.table({"body": list(texts), "most": pa.array(max_tokens, pa.int64())})
    path = folder / "rows" / "part-0.parquet"
    pq.write_table(table, path, row_group_size=-(-len(texts) // _SHARDS))
    return Rows(folder, tuple(texts), tuple(max_tokens), template)


def _bodies_and_caps(count: int) -> tuple[list[str], list[int]]:
    rng = random.Random(_SEED)
    bodies = [ticket.body for ticket in tickets(_SEED, count)]
    return bodies, [rng.randint(SHORTEST, MAX_TOKENS) for _ in bodies]
