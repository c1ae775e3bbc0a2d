"""The runs of a job, whatever they are named, the newest first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pipeline.core import layout
from pipeline.core.errors import ObjectDamaged, in_a_line
from pipeline.core.ports import ObjectStore
from pipeline.documents import GetAll, Json, dump, one_by_one, parse, with_keys

log = logging.getLogger("spotmill")

JOB_KEYS = ("run_id", "created_at", "date", "fingerprint", "fingerprints", "job")
"""What every `job.json` has."""
_MANIFEST_KEYS = ("run_id", "finished_at", "shards", "workers", "tokens", "cost")
_READ_AT_ONCE = 32
_MOST_LOOKED_AT = 128
"""Of a job's latest runs; one that was never finished counts too."""


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """`job.json` and `manifest.json` of a run whose books are closed."""

    job: Json
    manifest: Json

    @property
    def run_id(self) -> str:
        return str(self.job["run_id"])


def enter(store: ObjectStore, job_name: str, run_id: str, created_at: str) -> None:
    """Make a run known as the job's, before it is made: an entry without a run is passed over."""
    key = layout.job_run_key(job_name, created_at, run_id)
    store.put(key, dump({"run_id": run_id, "created_at": created_at}))


class JobRuns:
    """The runs of the job of this name under one output. All is read when it is asked for."""

    def __init__(self, store: ObjectStore, job_name: str, get_all: GetAll = one_by_one) -> None:
        self._store = store
        self._job_name = job_name
        self._get_all = get_all

    def latest(self) -> Json | None:
        """`job.json` of the run that was made last. Raises `ObjectDamaged`."""
        for run_id, body in self._newest_first():
            document = parse(body, as_job, layout.job_key(run_id))
            if document["job"]["name"] == self._job_name:
                return document
        return None

    def complete(self, before: str | None = None, but: str = "") -> Iterator[CompleteRun]:
        """Those whose books are closed, the newest first, out of the latest hundred or so; only
        those created `before` that time if one is given, and not the run `but`.

        One that cannot be read is passed over, and said in the log: no run stops for another's
        sake.
        """
        begun = (one for one in self._newest_first(before) if one[0] != but)
        looked_at = islice(begun, _MOST_LOOKED_AT)
        while some := list(islice(looked_at, _READ_AT_ONCE)):
            keys = [layout.run_manifest_key(run_id) for run_id, _ in some]
            manifests = self._get_all(self._store.get, keys)
            for (run_id, job), manifest in zip(some, manifests, strict=True):
                if manifest is not None and (found := self._read(run_id, job, manifest)):
                    yield found

    def _read(self, run_id: str, job: bytes, manifest: bytes) -> CompleteRun | None:
        try:
            found = CompleteRun(
                parse(job, as_job, layout.job_key(run_id)),
                parse(manifest, with_keys(_MANIFEST_KEYS), layout.run_manifest_key(run_id)),
            )
        except ObjectDamaged as damage:
            log.warning("run %s is left out of what is compared: %s", run_id, in_a_line(damage))
            return None
        return found if found.job["job"]["name"] == self._job_name else None

    def _newest_first(self, before: str | None = None) -> Iterator[tuple[str, bytes]]:
        """Run and `job.json` of those that were made, each once."""
        entries = sorted(self._entries(before), reverse=True)
        runs = list(dict.fromkeys(run_id for _, run_id in entries))
        for first in range(0, len(runs), _READ_AT_ONCE):
            some: Sequence[str] = runs[first : first + _READ_AT_ONCE]
            bodies = self._get_all(self._store.get, [layout.job_key(run_id) for run_id in some])
            for run_id, body in zip(some, bodies, strict=True):
                if body is not None:
                    yield run_id, body

    def _entries(self, before: str | None) -> Iterator[tuple[str, str]]:
        latest = None if before is None else layout.sortable_time(before)
        for key in self._store.list(layout.job_runs_prefix(self._job_name)):
            entry = layout.job_run_of(key)
            if entry is not None and (latest is None or entry[0] < latest):
                yield entry


def as_job(document: Json) -> Json:
    """Raises `KeyError` for what is no `job.json`."""
    return with_keys(JOB_KEYS)(document)
