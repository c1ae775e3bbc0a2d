"""What workers' sessions cost, and what shards are charged with for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pipeline.core.errors import BooksUnbalanced
from pipeline.core.manifest import charged_usd
from pipeline.core.money import Buckets, Node, NodePrice, dollars
from pipeline.core.portion import AttemptName
from pipeline.core.spans import Span, all_seconds, charges, cost_of, proved_by, together
from pipeline.core.times import micros_between

ENDED = frozenset({"ended", "failed"})
"""States in which a session's own account is complete."""


@dataclass(frozen=True, slots=True)
class SessionBill:
    """One worker session, as the beat of this number left it.

    Of its `decoded` tokens, `unshared` were for no shard; `attempts` are those decoded by attempt,
    where it did not publish the shard itself. `start` says how its engine came about. One that did
    not end may have lived longer: by `lease_micros`, while the store answered and the machine did
    not stand still, since it beats more often than that. `began_at` is when its process did,
    by its own clock. Its prices are those of its `node_share` of the machine. One that never told a
    price lived for `untold_micros`, which are not in its `spans`.
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
    began_at: str | None = None
    node_share: Fraction = Fraction(1)
    untold_micros: int = 0

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

    def so_far(self, published: Collection[int]) -> SessionBill:
        """The bill in a run of which these shards are published and others are not yet: what was
        decoded for those is no waste yet, for it may be of use."""
        known = {name: n for name, n in self.attempts.items() if name.shard_id in published}
        return replace(self, attempts=known)

    @property
    def falls_short(self) -> bool:
        """Whether it may have cost more than any sum holds."""
        return self.state not in ENDED or self.untold_micros > 0

    @property
    def uncertain_micros(self) -> int:
        """What may have come after the last beat of one that did not end, and what nobody can
        price; no sum holds it."""
        return self.untold_micros + (0 if self.state in ENDED else self.lease_micros)

    def unknown_micros(self, until: str) -> int | None:
        """As if one that did not end had lived until then, whatever became of it: the time since
        it began that its bill does not have. By two machines' wall clocks, so for people to read,
        and nothing may be decided by it. None where either is no time."""
        if self.state in ENDED:
            return self.untold_micros
        lived = None if self.began_at is None else micros_between(self.began_at, until)
        return None if lived is None else max(0, lived - self.buckets.total)

    def usd_of(self, micros: int | None) -> Decimal | None:
        """What so much more of it would cost, at its newest price; None where that is unknown."""
        return None if micros is None else dollars(micros, self.price.usd_per_hour)


@dataclass(slots=True)
class Charge:
    """What shards are charged with for one worker, in all. `lived` is the most that its attempts
    say it had lived when they were written; `unproved` that one of them does not say so."""

    usd: Decimal = Decimal(0)
    buckets: dict[NodePrice, Buckets] = field(default_factory=dict)
    decoded: dict[AttemptName, int] = field(default_factory=dict)
    lived: tuple[Span, ...] = ()
    unproved: bool = False

    @property
    def shards(self) -> str:
        """The first of them, for people."""
        shards = sorted({name.shard_id for name in self.decoded})
        return ", ".join(map(str, shards[:10])) + (" and more" if shards[10:] else "")

    def add(self, shard_id: int, attempt: Mapping[str, Any]) -> None:
        """One attempt, as manifests have it."""
        spans = charges(attempt)
        self.usd += charged_usd(spans) or Decimal(0)
        for price, buckets in spans:
            self.buckets[price] = self.buckets.get(price, Buckets()) + buckets
        self.decoded[_name(shard_id, attempt)] = _decoded(attempt)
        if "lived" in attempt:
            self.lived = proved_by((self.lived, charges(attempt["lived"])))
        elif all_seconds(spans).total:
            self.unproved = True


def charges_of(manifests: Iterable[Mapping[str, Any]]) -> defaultdict[str, Charge]:
    """By worker; nothing for those that shards are not charged for."""
    found: defaultdict[str, Charge] = defaultdict(Charge)
    for manifest in manifests:
        for attempt in manifest["attempts"]:
            found[attempt["worker_id"]].add(manifest["shard_id"], attempt)
    return found


def _name(shard_id: int, manifest_attempt: Mapping[str, Any]) -> AttemptName:
    portion = manifest_attempt.get("portion", {})
    return AttemptName(
        shard_id, manifest_attempt["epoch"], portion.get("number", 0), portion.get("take", 0)
    )


def _decoded(manifest_attempt: Mapping[str, Any]) -> int:
    tokens = manifest_attempt["tokens"]
    decoded: int = tokens["output"] + tokens["wasted"]
    return decoded


def proved(bill: SessionBill, charge: Charge) -> SessionBill:
    """A worker that died lived at least as long as its checkpoints say: its last beat may be older.
    One that ended said itself how long it lived.

    What shards are charged with proves nothing by itself, or whatever they are charged twice with
    would prove a longer life; but earlier versions wrote nothing else down.
    """
    if bill.state in ENDED:
        return bill
    looks = [bill.spans, charge.lived]
    if charge.unproved:
        looks.append(tuple(Span(*span) for span in charge.buckets.items()))
    return replace(bill, spans=proved_by(looks))


def left_of(bill: SessionBill, charge: Charge) -> list[Span]:
    """Of a session's seconds, by price, those that no shard is charged for. Raises
    `BooksUnbalanced` where shards are charged for more than it had, of whatever kind."""
    lived = together(bill.spans)
    # No time at all was at the price of a worker that had told none yet.
    charged = {price for price, spent in charge.buckets.items() if spent.total}
    if strange := charged - lived.keys():
        raise BooksUnbalanced(
            f"worker {bill.worker_id}: shards are charged at a price it never had",
            why=f"{', '.join(sorted(str(price.usd_per_hour) for price in strange))} an hour",
            hint="run `spotmill verify` on this run",
        )
    return [_left(bill, price, spent, charge) for price, spent in lived.items()]


def _left(bill: SessionBill, price: NodePrice, lived: Buckets, charge: Charge) -> Span:
    left = lived - charge.buckets.get(price, Buckets())
    # A dead worker's last interval was useful work to it, but nobody published it.
    rest = replace(left, useful=0, wasted=left.useful + left.wasted)
    if over := {name: -micros for name, micros in rest.items().items() if micros < 0}:
        names = {"wasted": "useful or wasted"}
        what = ", ".join(f"{micros / 1e6:.6f} s {names.get(k, k)}" for k, micros in over.items())
        raise BooksUnbalanced(
            f"worker {bill.worker_id}: shards are charged {what} more than it lived",
            where=f"shards {charge.shards}, at {price.usd_per_hour} an hour",
            why="seconds are charged twice, or its session or a shard's manifest was altered",
            hint=f"compare sessions/{bill.worker_id}.json with its `attempts` in the manifests of "
            "these shards; their rows are published, and not in doubt",
        )
    return Span(price, rest)
