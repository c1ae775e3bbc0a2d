"""The durable facts of a run, over a store. Whatever is true of a run can be read from here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias, TypeVar

from pipeline.core import layout
from pipeline.core.checkpoint import Attempt, Checkpoint, Progress, fold, lost_since
from pipeline.core.errors import LeaseLost, ObjectDamaged
from pipeline.core.lease import Lease
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.core.ports import Body, FileFormat, ObjectStore
from pipeline.core.rows import FinishedRow, FinishedRows
from pipeline.core.session import Session

Json = dict[str, Any]
T = TypeVar("T")

MISSHAPEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a document may raise that somebody tore or rewrote."""
_JOB_KEYS = ("run_id", "created_at", "date", "fingerprint", "fingerprints", "job")


Get: TypeAlias = Callable[[str], bytes | None]
GetAll: TypeAlias = Callable[[Get, Sequence[str]], Iterable[bytes | None]]
"""Applies the first to each of the second, in order."""
_READ_AT_ONCE = 64


def _one_by_one(get: Get, keys: Sequence[str]) -> Iterable[bytes | None]:
    return map(get, keys)


class Ledger:
    """One run's objects. Any thread may call it; of what workers race for, one gets it.

    Reading raises `ObjectDamaged` for an object that is not what spotmill writes there.
    """

    def __init__(
        self,
        store: ObjectStore,
        run_id: str,
        files: FileFormat,
        get_all: GetAll = _one_by_one,
        finished_rows: Callable[[], FinishedRows] = dict,
    ) -> None:
        self._store = store
        self._get_all = get_all
        self._finished_rows = finished_rows
        self.run_id = run_id
        self._files = files
        self._leases: dict[str, Lease] = {}

    # The plan: job.json decides which job the run belongs to; plan.parquet follows from it.

    def job(self) -> Json | None:
        return self._parsed(layout.job_key(self.run_id), _job)

    def create_job(self, document: Json) -> Json:
        """Make the run, or join it; the document that counts. `document` carries a nonce."""
        self._store.create(layout.job_key(self.run_id), _for_people(document))
        stored = self.job()
        assert stored is not None  # noqa: S101 - created above, by this caller or another
        return stored

    def plan(self) -> bytes | None:
        return self._store.get(layout.plan_key(self.run_id))

    def create_plan(self, body: bytes) -> None:
        """Equal fingerprints give equal plans, so it does not matter whose copy is kept."""
        self._store.create(layout.plan_key(self.run_id), body)

    def keep_ordered(self, number: int, digest: str, body: bytes) -> str:
        """Keep a file of the ordered copy, named by its content; the key it is found under."""
        key = layout.ordered_key(self.run_id, number, digest)
        self._store.create(key, body)
        return key

    # Leases.

    def latest_epochs(self) -> dict[int, int]:
        """The highest epoch ever claimed, by shard; shards never claimed are absent."""
        latest: dict[int, int] = {}
        for key in self._store.list(layout.leases_prefix(self.run_id)):
            named = layout.lease_of(key)
            if named is not None:
                latest[named.shard_id] = max(latest.get(named.shard_id, 0), named.epoch)
        return latest

    def latest_epoch(self, shard_id: int) -> int:
        keys = self._store.list(layout.leases_prefix(self.run_id, shard_id))
        return max((named.epoch for key in keys if (named := layout.lease_of(key))), default=0)

    def lease(self, shard_id: int, epoch: int) -> Lease | None:
        key = layout.lease_key(self.run_id, shard_id, epoch)
        if key not in self._leases:
            lease = self._parsed(key, lambda document: Lease(**document))
            if lease is None:
                return None
            # A lease never changes, so one read is enough for good.
            self._leases[key] = lease
        return self._leases[key]

    def claim(self, lease: Lease) -> bool:
        """True when this lease is now the shard's newest, and this caller made it."""
        key = layout.lease_key(self.run_id, lease.shard_id, lease.epoch)
        return self._store.create(key, _dump(asdict(lease)))

    # Sessions.

    def beat(self, session: Session) -> None:
        self._store.put(
            layout.session_key(self.run_id, session.worker_id), _dump(session.to_json())
        )

    def session(self, worker_id: str) -> Session | None:
        return self._parsed(layout.session_key(self.run_id, worker_id), Session.from_json)

    def worker_ids(self) -> list[str]:
        """Every worker that has a session."""
        keys = self._store.list(layout.sessions_prefix(self.run_id))
        return [worker for key in keys if (worker := layout.worker_of_session(key)) is not None]

    def sessions(self) -> dict[str, Session]:
        found = (self.session(worker_id) for worker_id in self.worker_ids())
        return {session.worker_id: session for session in found if session is not None}

    # Work done.

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Raises `LeaseLost` when this epoch's next checkpoint was written by somebody else."""
        key = layout.checkpoint_key(
            self.run_id, checkpoint.shard_id, checkpoint.epoch, checkpoint.seq
        )
        if not self._store.create(key, self._files.encode_checkpoint(checkpoint)):
            raise LeaseLost(f"checkpoint {key} exists already", where=self.run_id)

    def progress(self, shard_id: int, before_epoch: int) -> Progress:
        """What earlier epochs left: every checkpoint of theirs, and what their sessions say."""
        keys = sorted(
            (named.epoch, named.seq, key)
            for key in self._store.list(layout.checkpoints_prefix(self.run_id, shard_id))
            if (named := layout.checkpoint_of(key)) and named.epoch < before_epoch
        )
        points = self._checkpoints([key for _, _, key in keys])
        progress = fold(points, self._finished_rows())
        recorded = {attempt.epoch: attempt for attempt in progress.attempts}
        attempts = (
            self._attempt(shard_id, epoch, recorded.get(epoch)) for epoch in range(1, before_epoch)
        )
        made = tuple(a for a in attempts if a is not None)
        return replace(progress, attempts=made, unfed=self._unfed(made[-1:]))

    def checkpointed_rows(self) -> dict[int, int]:
        """Rows finished in checkpoints, by shard: for a person to look at, may count twice."""
        rows: dict[int, int] = {}
        for point in self._checkpoints(self._store.list(layout.checkpoints_prefix(self.run_id))):
            rows[point.shard_id] = rows.get(point.shard_id, 0) + len(point.finished)
        return rows

    def publish(self, shard_id: int, part: Body) -> bool:
        """True when this copy is the one that counts."""
        return self._store.create(layout.part_key(self.run_id, shard_id), part)

    def published_by(self, shard_id: int) -> tuple[str, int] | None:
        """Worker and epoch of the copy that counts."""
        part = self.part(shard_id)
        manifest = None if part is None else self.manifest_of_part(part)
        if manifest is None:
            return None
        last = manifest["attempts"][-1]
        return last["worker_id"], last["epoch"]

    def project_manifest(self, shard_id: int, manifest: bytes) -> None:
        """Copy a published part's manifest to where people look for it."""
        self._store.put(layout.shard_manifest_key(self.run_id, shard_id), manifest)

    def published(self) -> set[int]:
        return {
            shard_id
            for key in self.data_keys()
            if (shard_id := layout.shard_of_part(key)) is not None
        }

    def data_keys(self) -> Sequence[str]:
        return self._store.list(layout.parts_prefix(self.run_id))

    def data_keys_of_all_runs(self) -> Sequence[str]:
        return self._store.list(layout.DATA)

    def has_run(self, run_id: str) -> bool:
        """Whether there is such a run, this one or another under the same output."""
        return self._store.get(layout.job_key(run_id)) is not None

    def part(self, shard_id: int) -> bytes | None:
        return self._store.get(layout.part_key(self.run_id, shard_id))

    def manifest_of_part(self, body: bytes) -> Json | None:
        manifest = self._files.manifest_of_part(body)
        return None if manifest is None else _parse(manifest, _object, "its footer")

    def rows_of_part(self, body: bytes) -> Sequence[FinishedRow]:
        return self._files.rows_of_part(body)

    def projected_manifest(self, shard_id: int) -> Json | None:
        return self._json(layout.shard_manifest_key(self.run_id, shard_id))

    def projected_shards(self) -> set[int]:
        keys = self._store.list(layout.shard_manifests_prefix(self.run_id))
        return {shard for key in keys if (shard := layout.shard_of_manifest(key)) is not None}

    def shard_manifests(self, shard_ids: Collection[int]) -> list[Json]:
        """The manifests of published shards; a projection that is missing is made again."""
        return [found for shard in sorted(shard_ids) if (found := self._manifest(shard))]

    def run_manifest(self) -> Json | None:
        return self._json(layout.run_manifest_key(self.run_id))

    def finish(self, manifest: Json) -> bool:
        """True when this call completed the run."""
        return self._store.create(layout.run_manifest_key(self.run_id), _for_people(manifest))

    def _manifest(self, shard_id: int) -> Json | None:
        found = self.projected_manifest(shard_id)
        if found is None and (part := self.part(shard_id)) is not None:
            found = self.manifest_of_part(part)
            if found is not None:
                self.project_manifest(shard_id, _dump(found))
        return found

    def _attempt(self, shard_id: int, epoch: int, recorded: Attempt | None) -> Attempt | None:
        lease = self.lease(shard_id, epoch)
        if lease is None or (recorded is not None and recorded.end == "drained"):
            return recorded
        session = self.session(lease.worker_id)
        attempt = recorded or Attempt(
            worker_id=lease.worker_id,
            epoch=epoch,
            node=session.node if session else Node(),
            price=session.price if session else UNKNOWN_PRICE,
            started_at=lease.claimed_at,
            ended_at=session.beat_at if session else lease.claimed_at,
            end="lost",
        )
        account = session.account(shard_id) if session else None
        if account is None or account.epoch != epoch:
            return attempt
        return lost_since(attempt, account.decoded, account.useful_micros)

    def _unfed(self, attempts: Sequence[Attempt]) -> frozenset[int]:
        sessions = {a.epoch: self.session(a.worker_id) for a in attempts if a.end == "lost"}
        return frozenset(e for e, session in sessions.items() if session and session.only_loaded)

    def _checkpoints(self, keys: Sequence[str]) -> Iterator[Checkpoint]:
        # A few at a time, so that not all the bodies of a long shard are in memory at once.
        for first in range(0, len(keys), _READ_AT_ONCE):
            bodies = self._get_all(self._store.get, keys[first : first + _READ_AT_ONCE])
            yield from (self._files.decode_checkpoint(body) for body in bodies if body is not None)

    def _json(self, key: str) -> Json | None:
        return self._parsed(key, _object)

    def _parsed(self, key: str, parse: Callable[[Json], T]) -> T | None:
        body = self._store.get(key)
        return None if body is None else _parse(body, parse, key)


def in_words(problem: Exception) -> str:
    """What reading a misshapen document raised; such errors' messages alone may be one word."""
    return f"{type(problem).__name__}: {problem}"


def _parse(body: bytes, parse: Callable[[Json], T], where: str) -> T:
    try:
        return parse(_object(json.loads(body)))
    except MISSHAPEN as problem:
        raise ObjectDamaged(
            "not what spotmill writes there",
            where=where,
            why=in_words(problem),
            hint="put back an earlier version of the object, if the store keeps any",
        ) from problem


def _object(document: Any) -> Json:
    if not isinstance(document, dict):
        raise TypeError(f"a JSON object is expected, this is a {type(document).__name__}")
    return document


def _job(document: Json) -> Json:
    missing = [key for key in _JOB_KEYS if key not in document]
    if missing:
        raise KeyError(missing[0])
    return document


def _dump(document: Mapping[str, Any]) -> bytes:
    # Without an indent, since that alone makes Python's encoder several times slower.
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _for_people(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def latest_run(store: ObjectStore, job_name: str) -> Json | None:
    """`job.json` of the job's run that was made last; None when the output holds none of it."""
    keys = store.list(layout.run_prefix(job_name).rstrip("/"))
    runs = {run for key in keys if (run := layout.run_of(key))}
    jobs = [layout.job_key(run) for run in sorted(runs)]
    found = [(key, body) for key in jobs if (body := store.get(key)) is not None]
    documents = [_parse(body, _job, key) for key, body in found]
    # Another job's name may begin with this one's.
    own = [document for document in documents if document["job"]["name"] == job_name]
    return max(own, key=lambda document: str(document["created_at"]), default=None)
