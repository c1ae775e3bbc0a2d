"""The closing of a run's books: its manifest, from its shards' and its workers' bills."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Any

from pipeline.core.errors import BooksUnbalanced
from pipeline.core.manifest import (
    CURRENCY,
    SCHEMA_VERSION,
    Json,
    Provenance,
    attempt_cost,
    left_early,
    per_token,
)
from pipeline.core.money import (
    MICROS_PER_SECOND,
    Buckets,
    Node,
    NodePrice,
    decimal_of,
    decimal_text,
    dollars,
    sum_of,
)
from pipeline.core.portion import AttemptName
from pipeline.core.shards import Shard
from pipeline.core.spans import Span, account_to_json, all_seconds, charges, cost_of, together

ENDED = frozenset({"ended", "failed"})
"""States in which a session's own account is complete."""


@dataclass(frozen=True, slots=True)
class SessionBill:
    """One worker session, as the beat of this number left it.

    Of its `decoded` tokens, `unshared` were for no shard; `attempts` are those decoded by attempt,
    where it did not publish the shard itself. `start` says how its engine came about. One that did
    not end may have lived longer, by `lease_micros` as far as anybody knows.
    """

    worker_id: str
    node: Node
    spans: tuple[Span, ...]
    state: str
    decoded: int = 0
    beat: int = 0
    unshared: int = 0
    attempts: Mapping[AttemptName, int] = field(default_factory=dict)
    start: Mapping[str, Any] | None = None
    lease_micros: int = 0

    @property
    def buckets(self) -> Buckets:
        return all_seconds(self.spans)

    @property
    def price(self) -> NodePrice:
        """The newest."""
        return self.spans[-1].price

    @property
    def usd(self) -> Decimal | None:
        return cost_of(self.spans)

    @property
    def uncertain_micros(self) -> int:
        """What may have come after the last beat of one that did not end; no sum holds it."""
        return 0 if self.state in ENDED else self.lease_micros

    @property
    def uncertain_usd(self) -> Decimal | None:
        return dollars(self.uncertain_micros, self.price.usd_per_hour)


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
    waiting, work nobody published), so shards + unallocated = bills holds by construction; what
    can fail, and is checked, is that shards were charged more than the session lasted.
    """
    _check_counts(planned, manifests)
    charged = charges_of(manifests)
    bills = [proved(bill, charged[bill.worker_id].buckets) for bill in bills]
    unallocated = [_unallocated(bill, charged[bill.worker_id]) for bill in bills]
    allocated = sum_of(decimal_of(manifest["cost"]["total"]) for manifest in manifests)
    total = sum_of(bill.usd for bill in bills)
    left_over = sum_of(decimal_of(row["cost"]) for row in unallocated)
    if None not in (allocated, total, left_over) and allocated + left_over != total:  # type: ignore[operator]
        raise BooksUnbalanced(
            f"shards {allocated} + unallocated {left_over} is not the workers' bill {total}",
            where=provenance.run_id,
            why="a worker is charged for in a shard but has no session, or a manifest was altered",
            hint="run `spotmill verify` on this run",
        )
    output_tokens = sum(manifest["tokens"]["output"] for manifest in manifests)
    left = {a["worker_id"] for m in manifests for a in m["attempts"] if left_early(a)}
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
        "tokens": _sum_counts(
            [
                *(manifest["tokens"] for manifest in manifests),
                *({"wasted": row["tokens"]} for row in unallocated),
            ]
        ),
        "workers": [
            {
                "worker_id": bill.worker_id,
                "node": asdict(bill.node),
                **account_to_json(bill.spans),
                "cost": decimal_text(bill.usd),
                **({"uncertain": _uncertain(bill)} if bill.uncertain_micros else {}),
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
            "uncertain": decimal_text(sum_of(bill.uncertain_usd for bill in bills)),
            **per_token(total, output_tokens),
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


@dataclass(slots=True)
class Charge:
    """What shards are charged with for one worker, in all."""

    usd: Decimal = Decimal(0)
    buckets: dict[NodePrice, Buckets] = field(default_factory=dict)
    decoded: dict[AttemptName, int] = field(default_factory=dict)


def charges_of(manifests: Iterable[Mapping[str, Any]]) -> defaultdict[str, Charge]:
    """By worker; nothing for those that shards are not charged for."""
    found: defaultdict[str, Charge] = defaultdict(Charge)
    for manifest in manifests:
        for attempt in manifest["attempts"]:
            charge = found[attempt["worker_id"]]
            charge.usd += attempt_cost(attempt) or Decimal(0)
            for price, buckets in charges(attempt):
                charge.buckets[price] = charge.buckets.get(price, Buckets()) + buckets
            charge.decoded[_name(manifest["shard_id"], attempt)] = _decoded(attempt)
    return found


def _uncertain(bill: SessionBill) -> Json:
    seconds = bill.uncertain_micros / MICROS_PER_SECOND
    return {"seconds": seconds, "cost": decimal_text(bill.uncertain_usd)}


def _name(shard_id: int, manifest_attempt: Mapping[str, Any]) -> AttemptName:
    portion = manifest_attempt.get("portion", {})
    return AttemptName(
        shard_id, manifest_attempt["epoch"], portion.get("number", 0), portion.get("take", 0)
    )


def _decoded(manifest_attempt: Mapping[str, Any]) -> int:
    tokens = manifest_attempt["tokens"]
    decoded: int = tokens["output"] + tokens["wasted"]
    return decoded


def proved(bill: SessionBill, charged: Mapping[NodePrice, Buckets]) -> SessionBill:
    """A worker that died lived at least as long as its checkpoints, which shards are charged by,
    prove: its last beat may be older. One that ended said itself how long it lived."""
    if bill.state in ENDED:
        return bill
    spans = together(bill.spans)
    for price, buckets in charged.items():
        spans[price] = _at_least(spans.get(price, Buckets()), buckets)
    return replace(bill, spans=tuple(Span(price, buckets) for price, buckets in spans.items()))


def _at_least(lived: Buckets, charged: Buckets) -> Buckets:
    decoding = max(lived.useful + lived.wasted, charged.useful + charged.wasted)
    useful = max(lived.useful, charged.useful)
    return replace(
        lived, useful=useful, wasted=decoding - useful, idle=max(lived.idle, charged.idle)
    )


def _unallocated(bill: SessionBill, charge: Charge) -> Json:
    left = [_left(bill, *span, charge) for span in together(bill.spans).items()]
    strange = charge.buckets.keys() - together(bill.spans).keys()
    if strange:
        raise BooksUnbalanced(
            f"worker {bill.worker_id}: shards are charged at a price it never had",
            why=f"{', '.join(sorted(str(price.usd_per_hour) for price in strange))} an hour",
            hint="run `spotmill verify` on this run",
        )
    cost = None if bill.usd is None else bill.usd - charge.usd
    return {
        "worker_id": bill.worker_id,
        "tokens": bill.unshared + _unknown_to_shards(bill, charge),
        **account_to_json(left),
        "cost": decimal_text(cost),
    }


def _left(bill: SessionBill, price: NodePrice, lived: Buckets, charge: Charge) -> Span:
    """Of the seconds at this price, those that no shard is charged for."""
    charged = charge.buckets.get(price, Buckets())
    over = charged.total - lived.total
    if over > 0:
        raise BooksUnbalanced(
            f"worker {bill.worker_id}: shards are charged {over / 1e6:.6f} s more than it lived",
            why="its last session beat is missing, or a manifest was altered",
        )
    left = lived - charged
    # A dead worker's last interval was useful work to it, but nobody published it.
    lost = Buckets(wasted=left.useful + left.wasted)
    rest = Buckets(boot=left.boot, load=left.load, idle=left.idle, drain=left.drain)
    return Span(price, rest + lost)


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
