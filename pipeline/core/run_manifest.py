"""The closing of a run's books: its manifest, from its shards' and its workers' bills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

from pipeline.core.bills import Charge, SessionBill, charges_of, left_of, proved
from pipeline.core.errors import BooksUnbalanced
from pipeline.core.manifest import (
    CURRENCY,
    SCHEMA_VERSION,
    Json,
    Provenance,
    charged_usd,
    left_early,
    partings,
    per_token,
)
from pipeline.core.money import MICROS_PER_SECOND, decimal_of, decimal_text, sum_of
from pipeline.core.shards import Shard
from pipeline.core.spans import account_to_json, charges


def run_manifest(
    provenance: Provenance,
    planned: Sequence[Shard],
    manifests: Sequence[Mapping[str, Any]],
    bills: Sequence[SessionBill],
    started_at: str,
    finished_at: str,
) -> Json:
    """The run's closing document. Raises `BooksUnbalanced` when counts or money do not add up.

    What a session cost beyond what shards were charged for it is an unallocated row (boot, load,
    waiting, work nobody published), so shards + unallocated = bills holds by construction. What
    can fail, and is checked worker by worker and shard by shard, so that an unknown price hides
    nothing of the others: that shards are charged for more than a session had, of whatever kind and
    at whatever price, or for one that is not there, and that a shard's cost is its attempts'.
    """
    _check_counts(planned, manifests)
    charged = charges_of(manifests)
    _check_charges(manifests, charged, {bill.worker_id for bill in bills})
    bills = [proved(bill, charged[bill.worker_id]) for bill in bills]
    unallocated = [_unallocated(bill, charged[bill.worker_id]) for bill in bills]
    allocated = sum_of(decimal_of(manifest["cost"]["total"]) for manifest in manifests)
    total = sum_of(bill.usd for bill in bills)
    left_over = sum_of(decimal_of(row["cost"]) for row in unallocated)
    tokens = _sum_counts(
        [
            *(manifest["tokens"] for manifest in manifests),
            *({"wasted": row["tokens"]} for row in unallocated),
        ]
    )
    attempts = (attempt for manifest in manifests for attempt in manifest["attempts"])
    left = left_early(partings(attempts), {bill.worker_id: bill.state for bill in bills})
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": provenance.run_id,
        "job_fingerprint": provenance.job_fingerprint,
        "started_at": started_at,
        "finished_at": finished_at,
        "shards": len(planned),
        "input": {"rows": sum(shard.rows for shard in planned)},
        "output": {
            key: sum(manifest["output"][key] for manifest in manifests)
            for key in ("rows", "rows_ok", "rows_error")
        }
        | {"finish_reasons": _sum_counts(m["output"]["finish_reasons"] for m in manifests)},
        "model": dict(provenance.model),
        "tokens": tokens,
        "workers": [
            {
                "worker_id": bill.worker_id,
                "node": asdict(bill.node),
                "began_at": bill.began_at,
                **({"node_share": str(bill.node_share)} if bill.node_share != 1 else {}),
                **account_to_json(bill.spans),
                "cost": decimal_text(bill.usd),
                **({"uncertain": _uncertain(bill, finished_at)} if bill.falls_short else {}),
                "state": bill.state,
                # Known here alone without all shards' manifests, which may be ten thousand.
                "left_early": bill.worker_id in left,
                "decoded": bill.decoded,
                "beat": bill.beat,
                **({"start": dict(bill.start)} if bill.start else {}),
            }
            for bill in bills
        ],
        "unallocated": unallocated,
        "cost": {
            "currency": CURRENCY,
            "total": decimal_text(total),
            "allocated": decimal_text(allocated),
            "unallocated": decimal_text(left_over),
            "uncertain": decimal_text(sum_of(b.usd_of(b.uncertain_micros) for b in bills)),
            "uncertain_until_closed": decimal_text(
                sum_of(b.usd_of(b.unknown_micros(finished_at)) for b in bills)
            ),
            **per_token(total, tokens.get("input", 0), tokens.get("output", 0)),
        },
        "tags": dict(provenance.tags),
    }


def _check_counts(planned: Sequence[Shard], manifests: Sequence[Mapping[str, Any]]) -> None:
    by_shard = {manifest["shard_id"]: manifest for manifest in manifests}
    missing = [shard.id for shard in planned if shard.id not in by_shard]
    if missing or len(manifests) != len(planned):
        raise BooksUnbalanced(
            f"{len(planned)} shards planned, {len(manifests)} published",
            why=f"not published: {missing[:10]}" if missing else "a shard nobody planned",
            hint="run `spotmill resume`, then look at `spotmill status`",
        )
    for shard in planned:
        manifest = by_shard[shard.id]
        source, output = manifest["input"], manifest["output"]
        if not source["rows"] == shard.rows or source["rows_selected"] != output["rows"]:
            raise BooksUnbalanced(
                f"shard {shard.id}: {shard.rows} rows planned, {source['rows']} read, "
                f"{source['rows_selected']} selected, {output['rows']} published"
            )


def _check_charges(
    manifests: Sequence[Mapping[str, Any]], charged: Mapping[str, Charge], known: Set[str]
) -> None:
    for manifest in manifests:
        said = decimal_of(manifest["cost"]["total"])
        spans = [span for attempt in manifest["attempts"] for span in charges(attempt)]
        follows = charged_usd(spans)
        # Earlier versions took no time at an unknown price for an unknown cost.
        unknown = said is None and any(price.usd_per_hour is None for price, _ in spans)
        if said != follows and not unknown:
            raise BooksUnbalanced(
                f"shard {manifest['shard_id']}: its cost is {said}, its attempts' is {follows}",
                why="its manifest was altered",
                hint="run `spotmill verify` on this run",
            )
    for worker_id, charge in charged.items():
        micros = sum(buckets.total for buckets in charge.buckets.values())
        if micros and worker_id not in known:
            raise BooksUnbalanced(
                f"worker {worker_id}: shards are charged {micros / 1e6:.6f} s of it, and it has no "
                "session",
                where=f"shards {charge.shards}",
                why=f"sessions/{worker_id}.json is gone, or a shard's manifest was altered",
                hint="put the session back, if the store keeps earlier versions of objects",
            )


def _uncertain(bill: SessionBill, closed_at: str) -> Json:
    """What a worker may have cost beyond a bill that falls short: as a rule, and at the most.
    `untold_seconds` of it are those that it lived before it told a price, and never did."""
    at_most = bill.unknown_micros(closed_at)
    untold = {"untold_seconds": bill.untold_micros / MICROS_PER_SECOND}
    return {
        **_more(bill, bill.uncertain_micros),
        **(untold if bill.untold_micros else {}),
        "until_closed": _more(bill, at_most),
    }


def _more(bill: SessionBill, micros: int | None) -> Json:
    seconds = None if micros is None else micros / MICROS_PER_SECOND
    return {"seconds": seconds, "cost": decimal_text(bill.usd_of(micros))}


def _unallocated(bill: SessionBill, charge: Charge) -> Json:
    cost = None if bill.usd is None else bill.usd - charge.usd
    return {
        "worker_id": bill.worker_id,
        "tokens": bill.unshared + _unknown_to_shards(bill, charge),
        **account_to_json(left_of(bill, charge)),
        "cost": decimal_text(cost),
    }


def _unknown_to_shards(bill: SessionBill, charge: Charge) -> int:
    """Tokens decoded after the shard was somebody else's, who could not know of them."""
    return sum(
        max(0, decoded - charge.decoded.get(attempt, 0))
        for attempt, decoded in bill.attempts.items()
    )


def _sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
