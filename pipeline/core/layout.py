"""Every object key, spelled once (DESIGN §3). Keys are relative to the job's `output.uri`."""

from __future__ import annotations

import re
from typing import NamedTuple

RUNS = "runs/"
DATA = "data/"


# Right below its run's folder: what lies deeper is read by globs, but is no part.
_PART = re.compile(r"data/run=(?!\.{1,2}/)([\w.-]+)/part-(\d{5,})\.parquet$")


class EpochOfShard(NamedTuple):
    shard_id: int
    epoch: int


class CheckpointName(NamedTuple):
    shard_id: int
    epoch: int
    seq: int


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


def plan_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}plan.parquet"


def ordered_key(run_id: str, number: int, digest: str) -> str:
    return f"{run_prefix(run_id)}ordered/{part_name(number)}-{digest}.parquet"


def leases_prefix(run_id: str, shard_id: int | None = None) -> str:
    every = f"{run_prefix(run_id)}leases/"
    return every if shard_id is None else f"{every}{shard_id:05d}/"


def lease_key(run_id: str, shard_id: int, epoch: int) -> str:
    return f"{leases_prefix(run_id, shard_id)}{epoch:06d}.json"


def sessions_prefix(run_id: str) -> str:
    return f"{run_prefix(run_id)}sessions/"


def session_key(run_id: str, worker_id: str) -> str:
    return f"{sessions_prefix(run_id)}{worker_id}.json"


def checkpoints_prefix(run_id: str, shard_id: int | None = None) -> str:
    every = f"{run_prefix(run_id)}checkpoints/"
    return every if shard_id is None else f"{every}{shard_id:05d}/"


def checkpoint_key(run_id: str, shard_id: int, epoch: int, seq: int) -> str:
    return f"{checkpoints_prefix(run_id, shard_id)}{epoch:06d}-{seq:06d}.parquet"


def shard_manifests_prefix(run_id: str) -> str:
    return f"{run_prefix(run_id)}manifests/"


def shard_manifest_key(run_id: str, shard_id: int) -> str:
    return f"{shard_manifests_prefix(run_id)}{part_name(shard_id)}.json"


def run_manifest_key(run_id: str) -> str:
    return f"{run_prefix(run_id)}manifest.json"


def shard_of_part(key: str) -> int | None:
    """The shard a key under `data/` belongs to; None for a foreign object."""
    found = _PART.match(key)
    return int(found[2]) if found else None


def run_of_part(key: str) -> str | None:
    """The run that a part belongs to by its name; None for a foreign object."""
    found = _PART.match(key)
    return found[1] if found else None


def lease_of(key: str) -> EpochOfShard | None:
    found = re.search(r"/leases/(\d{5,})/(\d{6,})\.json$", key)
    return EpochOfShard(int(found[1]), int(found[2])) if found else None


def worker_of_session(key: str) -> str | None:
    found = re.search(r"/sessions/([^/]+)\.json$", key)
    return found[1] if found else None


def shard_of_manifest(key: str) -> int | None:
    found = re.search(r"/manifests/part-(\d{5,})\.json$", key)
    return int(found[1]) if found else None


def checkpoint_of(key: str) -> CheckpointName | None:
    found = re.search(r"/checkpoints/(\d{5,})/(\d{6,})-(\d{6,})\.parquet$", key)
    return CheckpointName(int(found[1]), int(found[2]), int(found[3])) if found else None


def run_of(key: str) -> str | None:
    found = re.match(r"runs/([^/]+)/", key)
    return found[1] if found else None


def compile_cache_key(identity: str) -> str:
    """In the place where compiled code is kept, which is nobody's output."""
    return f"{identity}.tar.gz"
