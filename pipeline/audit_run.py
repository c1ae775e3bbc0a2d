"""The run's closing document against its parts and its workers' sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from pipeline.core import layout
from pipeline.core.bills import ENDED, Charge, SessionBill, charges_of, proved
from pipeline.core.differences import differences, of_another_version
from pipeline.core.errors import BooksUnbalanced, ObjectDamaged, in_a_line
from pipeline.core.manifest import Provenance
from pipeline.core.money import UNTOLD_PRICE, Node, micros_of
from pipeline.core.run_manifest import run_manifest
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.core.spans import Span, all_seconds, charges
from pipeline.documents import MISSHAPEN, in_words
from pipeline.ledger import Ledger

Json = Mapping[str, Any]


def foreign_objects(ledger: Ledger, shards: Sequence[Shard]) -> Iterator[str]:
    """Whatever readers of `data/` would take for rows of a run, and is none; what nobody planned.

    Objects of no bytes that end in a slash are no objects to any store, and are passed over.
    """
    parts = {layout.part_key(ledger.run_id, shard.id) for shard in shards}
    runs: dict[str, bool] = {}
    for key in ledger.data_keys_of_all_runs():
        run = layout.run_of_part(key)
        if key in parts:
            continue
        if run is None or run == ledger.run_id:
            yield f"{key}: a foreign object under data/"
            continue
        if run not in runs:
            runs[run] = ledger.has_run(run)
        if not runs[run]:
            yield f"{key}: a foreign object under data/: there is no run {run!r} here"
    planned = {shard.id for shard in shards}
    for shard_id in sorted(ledger.projected_shards() - planned):
        yield f"{layout.shard_manifest_key(ledger.run_id, shard_id)}: nobody planned this shard"
    for shard_id in sorted(ledger.latest_epochs().keys() - planned):
        yield f"{layout.leases_prefix(ledger.run_id, shard_id)}: nobody planned this shard"


def sessions_of(ledger: Ledger) -> tuple[dict[str, Session], list[str]]:
    """The sessions that can be read, and what is wrong with the others."""
    sessions: dict[str, Session] = {}
    problems: list[str] = []
    for worker_id in ledger.sessions.worker_ids():
        try:
            session = ledger.sessions.of(worker_id)
        except ObjectDamaged as damage:
            problems.append(f"damaged: {in_a_line(damage)}")
            continue
        if session is not None and session.worker_id != worker_id:
            key = layout.session_key(ledger.run_id, worker_id)
            problems.append(f"{key}: it is of another worker, {session.worker_id!r}")
        elif session is not None:
            sessions[worker_id] = session
    return sessions, problems


def run_problems(
    run_id: str,
    said: Json,
    job_fingerprint: str,
    shards: Sequence[Shard],
    manifests: Sequence[dict[str, Any]],
    sessions: Mapping[str, Session],
) -> Iterator[str]:
    """`manifest.json` is what `manifests`, one of each shard, and the sessions give."""
    if (other := of_another_version(said)) is not None:
        yield f"manifest.json: the run was closed {other}"
        return
    tags = said.get("tags")
    provenance = Provenance(
        run_id,
        job_fingerprint,
        manifests[0]["model"] if manifests else {},
        # Tags are the job's of the day the run was closed, and nothing else keeps those.
        tags if isinstance(tags, Mapping) else {},
    )

    def closed(bills: Sequence[SessionBill]) -> dict[str, Any]:
        times = (said.get("started_at", ""), said.get("finished_at", ""))
        return run_manifest(provenance, shards, manifests, bills, *times)

    try:
        then = _as_closed(said, sessions, manifests)
        for bill in then:
            if bill.worker_id not in _by_worker(said, "workers"):
                yield f"manifest.json: worker {bill.worker_id!r} has a session, but no bill"
        made = closed(then)
    except BooksUnbalanced as problem:
        yield f"manifest.json: {in_a_line(problem)}"
        return
    except MISSHAPEN as problem:
        yield f"manifest.json: it or a session holds what is none: {in_words(problem)}"
        return
    for difference in differences(said, made):
        yield f"manifest.json: {difference}"


def _as_closed(
    said: Json, sessions: Mapping[str, Session], manifests: Sequence[Json]
) -> list[SessionBill]:
    """The bills as they were when the run was closed."""
    rows, left = _by_worker(said, "workers"), _by_worker(said, "unallocated")
    charges = charges_of(manifests)
    return [
        _as_of(session.bill, rows.get(worker_id), left.get(worker_id, {}), charges[worker_id])
        for worker_id, session in sorted(sessions.items())
        # Others may have come too late to find any work; no clock can tell, so work decides.
        if worker_id in rows or worker_id in charges
    ]


def _as_of(bill: SessionBill, row: Json | None, left: Json, charge: Charge) -> SessionBill:
    """A worker may have beaten on since, or an old beat may have arrived late: beats only tell of
    longer lives, and the same beat has to say the same."""
    if row is None or row["beat"] == bill.beat:
        return bill
    then = _at_known_prices(charges(row), bill, row["beat"] > bill.beat)
    # What it was charged with proves a life too, of which the next beat may not yet know.
    longer = all_seconds(then).total - proved(bill, charge).buckets.total
    if longer and (longer > 0) != (row["beat"] > bill.beat):
        return bill
    if then[-1].price == UNTOLD_PRICE:
        lease_micros = 0 if row["state"] in ENDED else bill.lease_micros
        uncertain_micros = micros_of(row["uncertain"]["seconds"])
        untold_micros = uncertain_micros - lease_micros
        bill = replace(bill, node=Node(), node_share=Fraction(1), untold_micros=untold_micros)
    return replace(
        bill,
        spans=then,
        state=row["state"],
        decoded=row["decoded"],
        beat=row["beat"],
        unshared=left["tokens"],
        attempts={},
        start=row.get("start"),
    )


def _at_known_prices(said: Sequence[Span], bill: SessionBill, newer: bool) -> tuple[Span, ...]:
    """The seconds as said, at prices that the session tells of, too: a beat that is older than
    what was said cannot know them all."""
    known = {span.price for span in bill.spans} | {UNTOLD_PRICE}
    return tuple(
        Span(price if newer or price in known else bill.price, spent) for price, spent in said
    )


def _by_worker(run: Json, section: str) -> dict[str, Json]:
    """The rows of a run's manifest that can be read as such, by worker."""
    rows = run.get(section)
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return {row["worker_id"]: row for row in found if isinstance(row.get("worker_id"), str)}
