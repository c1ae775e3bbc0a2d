"""The durable facts of portions: asked for, offered, taken, saved (decision 019)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict

from pipeline.core import layout
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.portion import AttemptName, Claims, Portion, PortionName, Take, claims_by_shard
from pipeline.core.ports import FileFormat, ObjectStore
from pipeline.documents import GetAll, Json, all_bodies, dump, parse


class PortionLedger:
    """One run's portions. Any thread may call it; of what workers race for, one gets it."""

    def __init__(self, store: ObjectStore, run_id: str, files: FileFormat, get_all: GetAll) -> None:
        self._store = store
        self._get_all = get_all
        self._run_id = run_id
        self._files = files
        self._takes: dict[AttemptName, Take] = {}

    def claims_by_shard(self) -> Mapping[int, Claims]:
        """Who has what, by shard; shards never claimed are absent."""
        return claims_by_shard(self._store.list(layout.leases_prefix(self._run_id)))

    def claims(self, shard_id: int) -> Claims:
        keys = self._store.list(layout.leases_prefix(self._run_id, shard_id))
        return claims_by_shard(keys).get(shard_id, Claims())

    def ask(self, shard_id: int, worker_id: str, number: int) -> None:
        """Say to the shard's owner that this worker has nothing to do."""
        key = layout.ask_key(self._run_id, shard_id, worker_id, number)
        self._store.create(key, dump({"worker_id": worker_id}))

    def offer(self, portion: Portion) -> bool:
        """True when this portion can be taken from now on, by whichever try of this caller."""
        key = self._portion_key(portion.shard_id, PortionName(portion.epoch, portion.portion))
        # Rows may be many: in one line, not one a line.
        body = json.dumps(asdict(portion), separators=(",", ":")).encode()
        if self._store.create(key, body):
            return True
        stored = self._store.get(key)
        return stored is not None and _portion(stored, key).nonce == portion.nonce

    def portion(self, shard_id: int, name: PortionName) -> Portion | None:
        key = self._portion_key(shard_id, name)
        body = self._store.get(key)
        return None if body is None else _portion(body, key)

    def take(self, name: AttemptName) -> Take | None:
        if name not in self._takes:
            key = layout.take_key(self._run_id, *name)
            body = self._store.get(key)
            if body is None:
                return None
            # It never changes, so one read is enough for good.
            self._takes[name] = parse(body, lambda document: Take(**document), key)
        return self._takes[name]

    def claim(self, take: Take) -> bool:
        """True when this take is now the portion's newest, and this caller made it."""
        return self._store.create(layout.take_key(self._run_id, *take.name), dump(asdict(take)))

    def points(self, shard_id: int, known: Collection[str]) -> dict[str, Checkpoint]:
        """Checkpoints of the shard's portions by key, but for those already `known`."""
        return self._read(key for key in self._point_keys(shard_id) if key not in known)

    def points_of(self, shard_id: int, name: PortionName) -> list[Checkpoint]:
        """Checkpoints of one portion alone, in no order."""
        named = ((layout.checkpoint_of(key), key) for key in self._point_keys(shard_id))
        keys = (key for found, key in named if found and (found.epoch, found.portion) == name)
        return list(self._read(keys).values())

    def _point_keys(self, shard_id: int) -> Sequence[str]:
        return self._store.list(layout.portion_checkpoints_prefix(self._run_id, shard_id))

    def _read(self, keys: Iterable[str]) -> dict[str, Checkpoint]:
        read = list(keys)
        bodies = zip(read, all_bodies(self._get_all, self._store.get, read), strict=True)
        return {
            key: self._files.decode_checkpoint(body) for key, body in bodies if body is not None
        }

    def _portion_key(self, shard_id: int, name: PortionName) -> str:
        return layout.portion_key(self._run_id, shard_id, name.epoch, name.portion)


def _portion(body: bytes, key: str) -> Portion:
    def made_of(document: Json) -> Portion:
        return Portion(**{**document, "rows": tuple(map(int, document["rows"]))})

    return parse(body, made_of, key)
