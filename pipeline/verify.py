"""Re-reads a run and proves it: every planned row answered once, in order, the books adding up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.audit_run import foreign_objects, run_problems, sessions_of
from pipeline.audit_shard import audit_shard
from pipeline.core.errors import ObjectDamaged, in_a_line
from pipeline.core.outlived import outlived
from pipeline.core.ports import InputSource
from pipeline.core.shards import Shard
from pipeline.documents import MISSHAPEN
from pipeline.ledger import Ledger

Json = Mapping[str, Any]


def problems(ledger: Ledger, shards: Sequence[Shard], source: InputSource) -> Iterator[str]:
    """What is wrong with a run, one sentence each; nothing when it is proved.

    Reads every part and, beside it, the input's rows, and works out each manifest anew: nothing
    that is stored is believed for being stored. An object that is torn is a problem, not an error;
    a store that does not answer raises.
    """
    yield from foreign_objects(ledger, shards)
    job, found = _read("job.json", ledger.job)
    if job is None:
        yield from found or ["job.json is missing: nothing says which job this run belongs to"]
    fingerprint = "unknown" if job is None else str(job["fingerprint"])
    sessions, found = sessions_of(ledger)
    yield from found
    manifests = []
    for shard in shards:
        audited = audit_shard(ledger, shard, source, fingerprint, sessions)
        yield from audited.problems
        if audited.manifest is not None:
            manifests.append(audited.manifest)
    run, found = _read("manifest.json", ledger.run_manifest)
    if run is None:
        yield from found or ["the run is not finished: it has no manifest.json"]
    elif len(manifests) < len(shards):
        yield "manifest.json: not compared, since the shards above cannot be added up"
    else:
        yield from run_problems(ledger.run_id, run, fingerprint, shards, manifests, sessions)


def remarks(ledger: Ledger) -> list[str]:
    """What somebody ought to know of a closed run in which nothing is wrong: what was spent after
    its books were closed, and is in none."""
    run, _ = _read("manifest.json", ledger.run_manifest)
    if run is None:
        return []
    sessions, _ = sessions_of(ledger)
    try:
        found = outlived(run, [session.bill for _, session in sorted(sessions.items())])
    except MISSHAPEN:
        # Which is a problem, and told as such.
        return []
    return [str(worker) for worker in found]


def _read(name: str, read: Callable[[], Json | None]) -> tuple[Json | None, list[str]]:
    try:
        return read(), []
    except ObjectDamaged as damage:
        return None, [f"{name} is damaged: {in_a_line(damage)}"]
