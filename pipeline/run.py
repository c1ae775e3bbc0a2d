"""A run from outside its workers: made or joined, looked at, added up, and closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from pipeline.accounts import ReadAccounts, accounts_of
from pipeline.core.cost_lines import RunBooks, life_in_books
from pipeline.core.crowding import crowded
from pipeline.core.errors import InputChanged, RunConflict
from pipeline.core.manifest import Provenance
from pipeline.core.outlived import outlived
from pipeline.core.ports import Clock
from pipeline.core.run_manifest import run_manifest
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.ledger import Ledger

log = logging.getLogger("spotmill.run")

Json = dict[str, Any]


def join_run(ledger: Ledger, document: Json) -> Json:
    """Make the run, or join the one of this name. Raises `RunConflict` and `InputChanged`."""
    known = ledger.create_job(document)
    ours, theirs = document["fingerprints"], known["fingerprints"]
    here, there = document["job"], known["job"]
    other_input = ours["input"] != theirs["input"] and (here["name"], here["input"]["uri"]) != (
        there["name"],
        there["input"]["uri"],
    )
    if ours["settings"] != theirs["settings"] or other_input:
        raise RunConflict(
            f"run {ledger.run_id!r} belongs to a job with other settings or another dataset",
            where=here["output"]["uri"],
            why="its input, model, sampling or shards section differs from this job's",
            hint="name another run with --run-id, or another output.uri",
        )
    if ours["input"] != theirs["input"]:
        raise InputChanged(
            f"the input is not the one that run {ledger.run_id!r} was planned from",
            where=document["job"]["input"]["uri"],
            hint="put the planned files back, or start a new run with --run-id",
        )
    return known


def finish(
    ledger: Ledger,
    provenance: Provenance,
    shards: Sequence[Shard],
    accounts: ReadAccounts,
    started_at: str,
    clock: Clock,
) -> Json:
    """Close the books: the run's manifest, made now or earlier. `accounts` are of all `shards`,
    and asked for where it is made. Raises `BooksUnbalanced`."""
    if (known := ledger.run_manifest()) is not None:
        return known
    found = accounts()
    _tell_of_crowds(found.sessions.values())
    if found.manifests:
        provenance = replace(provenance, model=found.manifests[0]["model"])
    manifest = run_manifest(
        provenance, shards, found.manifests, found.bills, started_at, clock.timestamp()
    )
    ledger.finish(manifest)
    finished = ledger.run_manifest()
    assert finished is not None  # noqa: S101 - created above, by this caller or another
    return finished


def _tell_of_crowds(sessions: Iterable[Session]) -> None:
    for crowd in crowded(sessions):
        log.warning(
            "machine %s is charged for %s times at once, to the workers %s: each of several on a "
            "machine has to be told its share of it, by SPOTMILL_NODE_SHARE",
            *(crowd.instance_id, _decimal(crowd.share), ", ".join(crowd.worker_ids)),
        )


def _decimal(share: Fraction) -> str:
    return f"{float(share):.4g}"


def progress_of(ledger: Ledger, shards: Sequence[Shard]) -> Json:
    """What there is to see of a run from outside, for people."""
    published = ledger.published()
    saved = ledger.checkpointed_rows()
    return {
        "run_id": ledger.run_id,
        "complete": ledger.run_manifest() is not None,
        "shards": {"planned": len(shards), "published": len(published)},
        "rows": {
            "planned": sum(shard.rows for shard in shards),
            "published": sum(shard.rows for shard in shards if shard.id in published),
            "checkpointed": sum(n for shard, n in saved.items() if shard not in published),
        },
        "workers": [
            {
                "worker_id": session.worker_id,
                "state": session.state,
                "beat_at": session.beat_at,
                "shards": sorted(session.shards),
                "rows": session.rows,
                "error": session.error,
            }
            for session in ledger.sessions.all().values()
        ],
    }


def books_of(
    ledger: Ledger,
    provenance: Provenance,
    planned: Callable[[], Sequence[Shard]],
    started_at: str,
    clock: Clock,
) -> RunBooks:
    """A run's books as they were closed; of one in progress, as they would be if they were closed
    over what is published and beaten by now. Raises `BooksUnbalanced` when those make no sense."""
    closed = ledger.run_manifest()
    found = accounts_of(ledger, ledger.published())
    run = closed
    if run is None:
        published = {manifest["shard_id"] for manifest in found.manifests}
        # A run that nobody planned yet has published nothing.
        shards = [s for s in planned() if s.id in published] if published else []
        bills = [bill.so_far(published) for bill in found.bills]
        run = run_manifest(
            provenance, shards, found.manifests, bills, started_at, clock.timestamp()
        )
    lived = {
        worker_id: (session.started_at, session.beat_at)
        for worker_id, session in found.sessions.items()
    }
    for row in [] if closed is None else closed["workers"]:
        # Whoever thaws after the closing beats on, and is in no row of its books.
        if (life := life_in_books(row)) is not None:
            lived[row["worker_id"]] = life
    more = [] if closed is None else outlived(closed, found.bills)
    return RunBooks(run, found.manifests, lived, complete=closed is not None, outlived=more)
