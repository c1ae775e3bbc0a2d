"""Rows without Parquet: prompts in a list, checkpoints and parts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.core.checkpoint import Attempt, Checkpoint
from pipeline.core.errors import ObjectDamaged, RowRejected
from pipeline.core.poison import strike_from_json
from pipeline.core.rows import FinishedRow, Prompt, Sampling, TextPrompt
from pipeline.core.shards import Shard


@dataclass(frozen=True, slots=True)
class Row:
    """An empty prompt is a bad row."""

    prompt: str
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class MemoryShard:
    """Implements `ShardInput`."""

    entries: Sequence[Row]

    @property
    def rows(self) -> int:
        return len(self.entries)

    def prompt(self, row: int) -> Prompt:
        if not self.entries[row].prompt:
            raise RowRejected("the prompt is empty")
        return TextPrompt(self.entries[row].prompt)

    def sampling(self, row: int) -> Sampling:
        return self.entries[row].sampling

    @contextmanager
    def part(self, finished: Iterable[FinishedRow], manifest: bytes) -> Iterator[bytes]:
        prompts = [entry.prompt for entry in self.entries]
        rows = [asdict(row) for row in finished]
        yield json.dumps({"manifest": manifest.decode(), "prompts": prompts, "rows": rows}).encode()

    def difference(self, part: bytes) -> str | None:
        published = json.loads(part)
        if published["prompts"] != [entry.prompt for entry in self.entries]:
            return "the prompts are not the input's"
        if [row["row"] for row in published["rows"]] != list(range(self.rows)):
            return "the rows are not the input's, each once and in order"
        if any((r["completion"] is None) == (r["error"] is None) for r in published["rows"]):
            return "a row has neither, or both, of completion and error"
        return None


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Implements `InputSource`, by shard."""

    rows: Mapping[int, Sequence[Row]]

    def open(self, shard: Shard) -> MemoryShard:
        return MemoryShard(self.rows[shard.id])

    def plan(self) -> tuple[Shard, ...]:
        return tuple(
            Shard(shard_id, f"file-{shard_id}", "etag", 1, (0,), 0, len(rows), 1)
            for shard_id, rows in self.rows.items()
        )


class JsonFormat:
    """Implements `FileFormat`."""

    def encode_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        document = {
            "shard_id": checkpoint.shard_id,
            "epoch": checkpoint.epoch,
            "seq": checkpoint.seq,
            "nonce": checkpoint.nonce,
            "finished": [asdict(row) for row in checkpoint.finished],
            "in_flight": list(checkpoint.in_flight.items()),
            "attempt": checkpoint.attempt.to_json(),
            "strikes": [asdict(strike) for strike in checkpoint.strikes],
        }
        return json.dumps(document).encode()

    def decode_checkpoint(self, body: bytes) -> Checkpoint:
        document: dict[str, Any] = json.loads(body)
        return Checkpoint(
            shard_id=document["shard_id"],
            epoch=document["epoch"],
            seq=document["seq"],
            nonce=document["nonce"],
            finished=tuple(FinishedRow.from_json(row) for row in document["finished"]),
            in_flight={row: tuple(tokens) for row, tokens in document["in_flight"]},
            attempt=Attempt.from_json(document["attempt"]),
            strikes=tuple(strike_from_json(strike) for strike in document["strikes"]),
        )

    def manifest_of_part(self, body: bytes) -> bytes | None:
        manifest: str | None = json.loads(body).get("manifest")
        return None if manifest is None else manifest.encode()

    def rows_of_part(self, body: bytes) -> list[FinishedRow]:
        try:
            return [FinishedRow.from_json(row) for row in json.loads(body)["rows"]]
        except (ValueError, KeyError, TypeError) as problem:
            raise ObjectDamaged("no part", why=repr(problem)) from problem
