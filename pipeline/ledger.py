"""The durable facts of a run, over a store. Whatever is true of a run can be read from here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from pipeline.core import layout
from pipeline.core.allowance import Allowance
from pipeline.core.checkpoint import Attempt, Checkpoint, Progress, fold, lost_since
from pipeline.core.errors import LeaseLost
from pipeline.core.lease import Lease
from pipeline.core.money import UNKNOWN_PRICE, Node
from pipeline.core.portion import AttemptName, PortionName, Take
from pipeline.core.ports import Body, FileFormat, ObjectStore
from pipeline.core.rows import FinishedRow, FinishedRows
from pipeline.core.spans import proved_by
from pipeline.core.times import later_of
from pipeline.documents import (
    GetAll,
    Json,
    all_bodies,
    all_parsed,
    as_object,
    dump,
    dump_for_people,
    one_by_one,
    parse,
)
from pipeline.job_runs import as_job
from pipeline.portion_ledger import PortionLedger
from pipeline.session_ledger import SessionLedger

T = TypeVar("T")


class Ledger:
    """One run's objects. Any thread may call it; of what workers race for, one gets it.

    Reading raises `ObjectDamaged` for an object that is not what spotmill writes there.
    """

    def __init__(
        self,
        store: ObjectStore,
        run_id: str,
        files: FileFormat,
        get_all: GetAll = one_by_one,
        finished_rows: Callable[[], FinishedRows] = dict,
    ) -> None:
        self._store = store
        self._get_all = get_all
        self._finished_rows = finished_rows
        self.run_id = run_id
        self._files = files
        self.portions = PortionLedger(store, run_id, files, get_all)
        self.sessions = SessionLedger(store, run_id, get_all)
        self._leases: dict[str, Lease] = {}

    # The plan: job.json decides which job the run belongs to; plan.parquet follows from it.

    def job(self) -> Json | None:
        return self._parsed(layout.job_key(self.run_id), as_job)

    def create_job(self, document: Json) -> Json:
        """Make the run, or join it; the document that counts. `document` carries a nonce."""
        self._store.create(layout.job_key(self.run_id), dump_for_people(document))
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
        return {s: claims.epoch for s, claims in self.portions.claims_by_shard().items()}

    def latest_epoch(self, shard_id: int) -> int:
        return self.portions.claims(shard_id).epoch

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
        return self._store.create(key, dump(asdict(lease)))

    # Money.

    def allow(self, allowance: Allowance) -> None:
        self._store.put(layout.allowance_key(self.run_id), dump(asdict(allowance)))

    def allowance(self) -> Allowance | None:
        return self._parsed(layout.allowance_key(self.run_id), lambda said: Allowance(**said))

    # Work done.

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Raises `LeaseLost` when this attempt's next checkpoint was written by somebody else."""
        attempt = checkpoint.attempt
        key = layout.checkpoint_key(
            self.run_id,
            checkpoint.shard_id,
            checkpoint.epoch,
            checkpoint.seq,
            attempt.portion,
            attempt.take,
        )
        if not self._store.create(key, self._files.encode_checkpoint(checkpoint)):
            raise LeaseLost(f"checkpoint {key} exists already", where=self.run_id)

    def progress(self, shard_id: int, before_epoch: int) -> Progress:
        """What earlier epochs left: every checkpoint of theirs, and what their sessions say."""
        named = (
            (name, key)
            for key in self._store.list(layout.checkpoints_prefix(self.run_id, shard_id))
            if (name := layout.checkpoint_of(key)) and name.epoch < before_epoch
        )
        # As `fold` wants them: an epoch's helpers before its owner.
        keys = sorted(((n.epoch, not n.portion, n.portion, n.take, n.seq), key) for n, key in named)
        points = self._checkpoints([key for _, key in keys])
        progress = fold(points, self._finished_rows())
        recorded = {attempt.order: attempt for attempt in progress.attempts}
        # A first epoch has no past, and need not ask for one.
        takes = self.portions.claims(shard_id).takes if before_epoch > 1 else {}
        attempts: list[Attempt | None] = []
        for epoch in range(1, before_epoch):
            for portion in sorted(portion for portion in takes if portion.epoch == epoch):
                attempts += self.attempts_on(shard_id, portion, takes[portion], progress.attempts)
            lease = self.lease(shard_id, epoch)
            own = recorded.get((epoch, True, 0, 0))
            attempts.append(self._attempt(AttemptName(shard_id, epoch), lease, own))
        made = tuple(a for a in attempts if a is not None)
        return replace(progress, attempts=made, unfed=self._unfed(made[-1:]))

    def attempts_on(
        self, shard_id: int, name: PortionName, takes: int, recorded: Sequence[Attempt]
    ) -> list[Attempt]:
        """The attempts of a portion's takes up to this one: those `recorded` in checkpoints, and
        what their sessions say."""
        known = {(a.epoch, a.portion, a.take): a for a in recorded}
        found: list[Attempt] = []
        for number in range(1, takes + 1):
            attempt = AttemptName(shard_id, *name, number)
            take = self.portions.take(attempt)
            # What an owner takes back is part of its own attempt.
            if take is not None and take.owner_epoch is None:
                made = self._attempt(attempt, take, known.get((*name, number)))
                found += [] if made is None else [made]
        return found

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

    def is_published(self, shard_id: int) -> bool:
        return bool(self._store.list(layout.part_key(self.run_id, shard_id)))

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
        return None if manifest is None else parse(manifest, as_object, "its footer")

    def rows_of_part(self, body: bytes) -> Sequence[FinishedRow]:
        return self._files.rows_of_part(body)

    def projected_manifest(self, shard_id: int) -> Json | None:
        return self._json(layout.shard_manifest_key(self.run_id, shard_id))

    def projected_shards(self) -> set[int]:
        keys = self._store.list(layout.shard_manifests_prefix(self.run_id))
        return {shard for key in keys if (shard := layout.shard_of_manifest(key)) is not None}

    def shard_manifests(self, shard_ids: Collection[int]) -> list[Json]:
        """The manifests of published shards; a projection that is missing is made again."""
        ids = sorted(shard_ids)
        keys = [layout.shard_manifest_key(self.run_id, shard_id) for shard_id in ids]
        read = zip(ids, all_parsed(self._get_all, self._store.get, keys, as_object), strict=True)
        return [made for shard_id, found in read if (made := found or self._projected(shard_id))]

    def run_manifest(self) -> Json | None:
        return self._json(layout.run_manifest_key(self.run_id))

    def finish(self, manifest: Json) -> bool:
        """True when this call completed the run."""
        return self._store.create(layout.run_manifest_key(self.run_id), dump_for_people(manifest))

    def export(self, key: str, make: Callable[[], bytes]) -> bool:
        """Keep a table that follows from the closed books, made unless it is there; True when this
        call wrote it. Whoever makes it makes the same, so nothing is lost with it."""
        return key not in self._store.list(key) and self._store.create(key, make())

    def _projected(self, shard_id: int) -> Json | None:
        part = self.part(shard_id)
        found = None if part is None else self.manifest_of_part(part)
        if found is not None:
            self.project_manifest(shard_id, dump(found))
        return found

    def _attempt(
        self, name: AttemptName, claim: Lease | Take | None, recorded: Attempt | None
    ) -> Attempt | None:
        if claim is None or (recorded is not None and recorded.end == "drained"):
            return recorded
        session = self.sessions.of(claim.worker_id)
        attempt = recorded or Attempt(
            worker_id=claim.worker_id,
            epoch=name.epoch,
            node=session.node if session else Node(),
            price=session.price if session else UNKNOWN_PRICE,
            started_at=claim.claimed_at,
            ended_at=later_of(claim.claimed_at, session.beat_at) if session else claim.claimed_at,
            end="lost",
            portion=name.portion,
            take=name.take,
        )
        if session is None:
            return attempt
        attempt = replace(attempt, lived=proved_by((attempt.lived, session.proof)))
        if (account := session.account(name)) is None:
            return attempt
        if session.still_at(name):
            attempt = replace(attempt, ended_at=later_of(attempt.ended_at, session.beat_at))
        useful = account.useful_by_price(session.price)
        return lost_since(attempt, account.decoded, useful)

    def _unfed(self, attempts: Sequence[Attempt]) -> frozenset[int]:
        sessions = {a.epoch: self.sessions.of(a.worker_id) for a in attempts if a.end == "lost"}
        return frozenset(e for e, session in sessions.items() if session and session.only_loaded)

    def _checkpoints(self, keys: Sequence[str]) -> Iterator[Checkpoint]:
        bodies = all_bodies(self._get_all, self._store.get, keys)
        return (self._files.decode_checkpoint(body) for body in bodies if body is not None)

    def _json(self, key: str) -> Json | None:
        return self._parsed(key, as_object)

    def _parsed(self, key: str, made_of: Callable[[Json], T]) -> T | None:
        body = self._store.get(key)
        return None if body is None else parse(body, made_of, key)
