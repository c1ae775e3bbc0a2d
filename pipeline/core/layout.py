"""Every object key, spelled once (DESIGN §3). Keys are relative to the job's `output.uri`."""

from __future__ import annotations

import re
from typing import NamedTuple

RUNS = "runs/"
JOBS = "jobs/"
DATA = "data/"


# Right below its run's folder: what lies deeper is read by globs, but is no part.
_PART = re.compile(r"data/run=(?!\.{1,2}/)([\w.-]+)/part-(\d{5,})\.parquet$")


class EpochOfShard(NamedTuple):
    shard_id: int
    epoch: int


class CheckpointName(NamedTuple):
    """`portion` and `take` are 0 in the owner's own."""

    shard_id: int
    epoch: int
    seq: int
    portion: int = 0
    take: int = 0


def parts_prefix(run_id: str) -> str:
    return f"{DATA}run={run_id}/"


def part_name(shard_id: int) -> str:
    return f"part-{shard_id:05d}"


def part_key(run_id: str, shard_id: int) -> str:
    return f"{parts_prefix(run_id)}{part_name(shard_id)}.parquet"


def run_prefix(run_id: str) -> str:
    return f"{RUNS}{run_id}/"


def job_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}job.json"


def job_runs_prefix(job_name: str) -> str:
    """What tells which runs are a job's, and when they were made."""
    return f"{JOBS}{job_name}/"


def job_run_key(job_name: str, created_at: str, run_id: str) -> str:
    return f"{job_runs_prefix(job_name)}{sortable_time(created_at)}-{run_id}.json"


def sortable_time(timestamp: str) -> str:
    """A timestamp of a clock's (ISO 8601, UTC, milliseconds) as keys have it: sorted as time is."""
    return re.sub(r"[^\dT]", "", timestamp)


def plan_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}plan.parquet"


def ordered_key(run_id: str, number: int, digest: str) -> str:
    return f"{run_prefix(run_id)}ordered/{part_name(number)}-{digest}.parquet"


def leases_prefix(run_id: str, shard_id: int | None = None) -> str:
    every = f"{run_prefix(run_id)}leases/"
    return every if shard_id is None else f"{every}{shard_id:05d}/"


def lease_key(run_id: str, shard_id: int, epoch: int) -> str:
    return f"{leases_prefix(run_id, shard_id)}{epoch:06d}.json"


def portion_key(run_id: str, shard_id: int, epoch: int, portion: int) -> str:
    """Below the shard's leases, so that whoever looks for a newer epoch sees it in the answer."""
    return f"{leases_prefix(run_id, shard_id)}portions/{epoch:06d}-{portion:06d}.json"


def take_key(run_id: str, shard_id: int, epoch: int, portion: int, take: int) -> str:
    return f"{leases_prefix(run_id, shard_id)}portions/{epoch:06d}-{portion:06d}/{take:06d}.json"


def ask_key(run_id: str, shard_id: int, worker_id: str, number: int) -> str:
    return f"{leases_prefix(run_id, shard_id)}asks/{worker_id}-{number:06d}.json"


def sessions_prefix(run_id: str) -> str:
    return f"{run_prefix(run_id)}sessions/"


def session_key(run_id: str, worker_id: str) -> str:
    return f"{sessions_prefix(run_id)}{worker_id}.json"


def last_beats_prefix(run_id: str) -> str:
    return f"{run_prefix(run_id)}ended/"


def last_beat_key(run_id: str, worker_id: str) -> str:
    """A session's last beat, made once: no beat that arrives late undoes it."""
    return f"{last_beats_prefix(run_id)}{worker_id}.json"


def checkpoints_prefix(run_id: str, shard_id: int | None = None) -> str:
    every = f"{run_prefix(run_id)}checkpoints/"
    return every if shard_id is None else f"{every}{shard_id:05d}/"


def checkpoint_key(
    run_id: str, shard_id: int, epoch: int, seq: int, portion: int = 0, take: int = 0
) -> str:
    if portion:
        prefix = portion_checkpoints_prefix(run_id, shard_id)
        return f"{prefix}{epoch:06d}-{portion:06d}-{take:06d}-{seq:06d}.parquet"
    return f"{checkpoints_prefix(run_id, shard_id)}{epoch:06d}-{seq:06d}.parquet"


def portion_checkpoints_prefix(run_id: str, shard_id: int) -> str:
    return f"{checkpoints_prefix(run_id, shard_id)}portions/"


def shard_manifests_prefix(run_id: str) -> str:
    return f"{run_prefix(run_id)}manifests/"


def shard_manifest_key(run_id: str, shard_id: int) -> str:
    return f"{shard_manifests_prefix(run_id)}{part_name(shard_id)}.json"


def run_manifest_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}manifest.json"


def costs_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}costs.parquet"


def focus_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}focus.parquet"


def allowance_key(run_id: str) -> str:
    """For how long workers may go on spending."""
    return f"{run_prefix(run_id)}allowance.json"


def prediction_key(run_id: str) -> str:
    """What the run was expected to cost when it began."""
    return f"{run_prefix(run_id)}prediction.json"


def profile_key(fingerprint: str) -> str:
    """What `spotmill tune` measured, by the fingerprint (`sha256:...`) of what it depends on."""
    return f"profiles/{fingerprint.removeprefix('sha256:')}.json"


def shard_of_part(key: str) -> int | None:
    """The shard a key under `data/` belongs to; None for a foreign object."""
    found = _PART.match(key)
    return int(found[2]) if found else None


def run_of_part(key: str) -> str | None:
    """The run that a part belongs to by its name; None for a foreign object."""
    found = _PART.match(key)
    return found[1] if found else None


def job_run_of(key: str) -> tuple[str, str] | None:
    """When a run was made, as `sortable_time`, and its name."""
    found = re.match(r"jobs/[^/]+/(\d{8}T\d{9})-([^/]+)\.json$", key)
    return (found[1], found[2]) if found else None


def lease_of(key: str) -> EpochOfShard | None:
    found = re.search(r"/leases/(\d{5,})/(\d{6,})\.json$", key)
    return EpochOfShard(int(found[1]), int(found[2])) if found else None


def portion_of(key: str) -> tuple[int, int, int] | None:
    """Shard, epoch and number of an offered portion."""
    found = re.search(r"/leases/(\d{5,})/portions/(\d{6,})-(\d{6,})\.json$", key)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def take_of(key: str) -> tuple[int, int, int, int] | None:
    """Shard, epoch and number of a portion, and the number of the take."""
    found = re.search(r"/leases/(\d{5,})/portions/(\d{6,})-(\d{6,})/(\d{6,})\.json$", key)
    return (int(found[1]), int(found[2]), int(found[3]), int(found[4])) if found else None


def ask_of(key: str) -> tuple[int, str, int] | None:
    """Shard, asking worker and number of its ask."""
    found = re.search(r"/leases/(\d{5,})/asks/([^/]+)-(\d{6,})\.json$", key)
    return (int(found[1]), found[2], int(found[3])) if found else None


def worker_of_session(key: str) -> str | None:
    found = re.search(r"/sessions/([^/]+)\.json$", key)
    return found[1] if found else None


def worker_of_last_beat(key: str) -> str | None:
    found = re.search(r"/ended/([^/]+)\.json$", key)
    return found[1] if found else None


def shard_of_manifest(key: str) -> int | None:
    found = re.search(r"/manifests/part-(\d{5,})\.json$", key)
    return int(found[1]) if found else None


def checkpoint_of(key: str) -> CheckpointName | None:
    if found := re.search(r"/checkpoints/(\d{5,})/(\d{6,})-(\d{6,})\.parquet$", key):
        return CheckpointName(int(found[1]), int(found[2]), int(found[3]))
    found = re.search(
        r"/checkpoints/(\d{5,})/portions/(\d{6,})-(\d{6,})-(\d{6,})-(\d{6,})\.parquet$", key
    )
    if found is None:
        return None
    shard_id, epoch, portion, take, seq = (int(part) for part in found.groups())
    return CheckpointName(shard_id, epoch, seq, portion, take)


def compile_cache_key(identity: str) -> str:
    """In the place where compiled code is kept, which is nobody's output."""
    return f"{identity}.tar.gz"
