"""One published part against its input, its own rows, its footer and its attempts' leases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline.core import layout
from pipeline.core.checkpoint import Attempt
from pipeline.core.differences import differences, of_another_version
from pipeline.core.errors import InputChanged, InputInvalid, JobInvalid, ObjectDamaged, in_a_line
from pipeline.core.lease import Lease
from pipeline.core.manifest import Provenance, shard_manifest
from pipeline.core.money import UNTOLD_PRICE, Node, NodePrice
from pipeline.core.portion import AttemptName, Take
from pipeline.core.ports import InputSource
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.session import Session
from pipeline.core.shards import Shard
from pipeline.documents import MISSHAPEN, in_words
from pipeline.ledger import Ledger

Json = Mapping[str, Any]

_ENOUGH = 5
"""Rows of one shard that are told of one by one."""


@dataclass(frozen=True, slots=True)
class AuditedShard:
    """`manifest` follows from the part's rows and attempts; None when they cannot be read."""

    problems: Sequence[str]
    manifest: dict[str, Any] | None = None


def audit_shard(
    ledger: Ledger,
    shard: Shard,
    source: InputSource,
    job_fingerprint: str,
    sessions: Mapping[str, Session],
) -> AuditedShard:
    """Everything about one shard that its own objects and its input can prove."""
    part = ledger.part(shard.id)
    if part is None:
        return AuditedShard([_of(shard, "not published")])
    problems: list[str] = []
    manifest: dict[str, Any] | None = None
    try:
        rows = ledger.rows_of_part(part)
        problems += _input_problems(source, shard, part)
        problems += _row_problems(rows)
        said = ledger.manifest_of_part(part)
        if said is None:
            problems.append("the part carries no manifest")
        else:
            problems += _projection_problems(ledger, shard, said)
            attempts = [Attempt.from_json(attempt) for attempt in said["attempts"]]
            problems += _attempt_problems(ledger, shard, rows, attempts, sessions)
            manifest = _recomputed(ledger.run_id, shard, job_fingerprint, said, rows, attempts)
            problems += _quarantine_problems(said, rows)
            # The engine's deaths are told in checkpoints, which nobody keeps: the footer's word.
            manifest.pop("quarantined", None)
            if (other := of_another_version(said)) is not None:
                problems.append(f"footer: the shard was published {other}")
            else:
                problems += (f"footer: {difference}" for difference in differences(said, manifest))
    except ObjectDamaged as damage:
        problems.append(f"damaged: {in_a_line(damage)}")
    except MISSHAPEN as problem:
        problems.append(
            f"footer: its attempts or its quarantine cannot be read: {in_words(problem)}"
        )
    return AuditedShard([_of(shard, problem) for problem in problems], manifest)


def _of(shard: Shard, problem: str) -> str:
    return f"shard {shard.id:05d}: {problem}"


def _input_problems(source: InputSource, shard: Shard, part: bytes) -> Iterator[str]:
    try:
        rows = source.open(shard)
    except (InputChanged, InputInvalid, JobInvalid) as problem:
        yield f"not compared with its input: {in_a_line(problem)}"
        return
    if difference := rows.difference(part):
        yield difference


def _row_problems(rows: Sequence[FinishedRow]) -> Iterator[str]:
    wrong = ((row.row, problem) for row in rows if (problem := _row_problem(row)) is not None)
    for number, problem in islice(wrong, _ENOUGH):
        yield f"row {number}: {problem}"
    if more := sum(1 for _ in wrong):
        yield f"{more} more rows like these"


def _row_problem(row: FinishedRow) -> str | None:
    if (row.completion is None) == (row.error is None):
        return "it has neither, or both, of completion and error"
    if (row.completion is None) != (row.finish_reason is None):
        return "completion and finish_reason do not go together"
    if min(row.prompt_tokens, row.completion_tokens, row.cached_tokens) < 0:
        return "a count of tokens is negative"
    if row.cached_tokens > row.prompt_tokens:
        return f"{row.cached_tokens} of {row.prompt_tokens} prompt tokens are called cached"
    return None


def _quarantine_problems(said: Json, rows: Sequence[FinishedRow]) -> Iterator[str]:
    for entry in said.get("quarantined", ()):
        if rows[entry["row"]].error is None:
            yield f"row {entry['row']} is called quarantined, and is answered"


def _projection_problems(ledger: Ledger, shard: Shard, said: Json) -> Iterator[str]:
    key = layout.shard_manifest_key(ledger.run_id, shard.id)
    try:
        projected = ledger.projected_manifest(shard.id)
    except ObjectDamaged as damage:
        yield f"damaged: {in_a_line(damage)}"
        return
    if projected is None:
        yield f"{key} is missing"
    elif projected != said:
        found = [*differences(projected, said), "it has sections that the footer has not"]
        yield f"manifests/ and the part's footer disagree: {found[0]}"


def _attempt_problems(
    ledger: Ledger,
    shard: Shard,
    rows: Sequence[FinishedRow],
    attempts: Sequence[Attempt],
    sessions: Mapping[str, Session],
) -> Iterator[str]:
    epochs = [attempt.epoch for attempt in attempts if not attempt.portion]
    if not epochs or epochs != list(range(1, len(epochs) + 1)):
        yield f"its attempts have epochs {epochs}, not 1, 2, 3 and so on"
    orders = [attempt.order for attempt in attempts]
    if orders != sorted(set(orders)):
        yield "its attempts are not in order, or one is there twice"
    ends = [attempt.end for attempt in attempts]
    if ends[-1:] != ["published"] or "published" in ends[:-1]:
        yield f"its attempts ended as {ends}: the last publishes, and it alone"
    for attempt in attempts:
        yield from (
            f"{_called(attempt)}: {problem}"
            for problem in _claim_problems(ledger, shard, attempt, sessions)
        )
    paid = sum((attempt.tokens for attempt in attempts), TokenCounts())
    published = TokenCounts.of_rows(rows)
    yield from _unlike("rows", sum(a.rows for a in attempts), len(rows), attempts)
    yield from _unlike("input tokens", paid.input, published.input, attempts)
    yield from _unlike("cached tokens", paid.cached_input, published.cached_input, attempts)


def _called(attempt: Attempt) -> str:
    portion = f", portion {attempt.portion}, take {attempt.take}" if attempt.portion else ""
    return f"epoch {attempt.epoch}{portion}"


def _unlike(what: str, charged: int, published: int, attempts: Sequence[Attempt]) -> Iterator[str]:
    # Two attempts may both have answered a row, when one was a zombie; a single one counts it once.
    if charged < published or (len(attempts) == 1 and charged > published):
        yield f"its attempts answered {charged} {what}, {published} are published"


def _claim_problems(
    ledger: Ledger, shard: Shard, attempt: Attempt, sessions: Mapping[str, Session]
) -> Iterator[str]:
    session = sessions.get(attempt.worker_id)
    if session is None:
        yield f"worker {attempt.worker_id!r} has no session"
    elif _strange_node(attempt, session) or _strange_prices(attempt, session):
        yield f"its node or its price is not that of the session of worker {attempt.worker_id!r}"
    name = AttemptName(shard.id, attempt.epoch, attempt.portion, attempt.take)
    key = (
        layout.take_key(ledger.run_id, *name)
        if attempt.portion
        else layout.lease_key(ledger.run_id, shard.id, attempt.epoch)
    )
    lease: Lease | Take | None
    try:
        if attempt.portion:
            lease = ledger.portions.take(name)
        else:
            lease = ledger.lease(shard.id, attempt.epoch)
    except ObjectDamaged as damage:
        yield f"damaged: {in_a_line(damage)}"
        return
    if lease is None:
        yield f"{key} is missing"
        return
    claimed = (lease.shard_id, lease.epoch, lease.worker_id, lease.claimed_at)
    charged = (shard.id, attempt.epoch, attempt.worker_id, attempt.started_at)
    if claimed != charged:
        yield f"its lease says {claimed}, its attempt {charged}"
    if isinstance(lease, Take) and (lease.name != name or lease.owner_epoch is not None):
        yield f"{key} is of another take, {lease.name}, or of the owner"


def _strange_node(attempt: Attempt, session: Session) -> bool:
    """Whether it is not the worker's; of one that had not told yet, nobody knew it."""
    if attempt.price == UNTOLD_PRICE:
        return attempt.node != Node()
    # A beat that arrived late may lie over the one that told it.
    return not session.untold and attempt.node != session.node


def _strange_prices(attempt: Attempt, session: Session) -> set[NodePrice]:
    """Prices that the worker never had. A dead one may have had some after its last beat, of which
    the attempt alone tells, in what it says that the worker had lived."""
    known = {UNTOLD_PRICE, *(span.price for span in session.spans)}
    if not session.over:
        known |= {attempt.price, *(span.price for span in attempt.lived)}
    return {span.price for span in attempt.spans} - known


def _recomputed(
    run_id: str,
    shard: Shard,
    job_fingerprint: str,
    said: Json,
    rows: Sequence[FinishedRow],
    attempts: Sequence[Attempt],
) -> dict[str, Any]:
    # Which model answered and which tags paid may change while a run lasts: the part's word counts.
    model, tags = said.get("model"), said.get("tags")
    output = said.get("output")
    uri = output.get("uri") if isinstance(output, Mapping) else None
    key = layout.part_key(run_id, shard.id)
    provenance = Provenance(
        run_id,
        job_fingerprint,
        model if isinstance(model, Mapping) else {},
        tags if isinstance(tags, Mapping) else {},
    )
    # A bucket may have been copied elsewhere since; the key below it stays.
    whole = uri if isinstance(uri, str) and uri.endswith(key) else key
    return shard_manifest(provenance, shard, whole, rows, attempts)
