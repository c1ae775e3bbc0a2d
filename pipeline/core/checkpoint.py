"""What one checkpoint makes durable, and what a successor makes of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.poison import Strike
from pipeline.core.rows import FinishedRow, FinishedRows, TokenCounts
from pipeline.core.spans import (
    Span,
    account_to_json,
    all_seconds,
    charges,
    spans_of,
    together,
)

AttemptEnd = Literal["published", "drained", "lost", "superseded"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's time on one shard under one epoch, as far as it is recorded; where `portion` is
    not 0, on that portion of it alone, as its `take`-th holder (decision 019)."""

    worker_id: str
    epoch: int
    node: Node
    price: NodePrice
    started_at: str
    ended_at: str
    end: AttemptEnd
    buckets: Buckets = Buckets()
    rows: int = 0
    tokens: TokenCounts = TokenCounts()
    portion: int = 0
    take: int = 0
    earlier: tuple[Span, ...] = ()
    """The part of `buckets` that had other prices, before the one of now."""
    lived: tuple[Span, ...] = ()
    """All that its worker had lived when this was written, at whatever work: the bound of what can
    be charged for it, should it die. () in what earlier versions wrote."""

    @property
    def spans(self) -> tuple[Span, ...]:
        return spans_of(self.price, self.buckets, self.earlier)

    @property
    def order(self) -> tuple[int, bool, int, int]:
        """An epoch's owner comes after its helpers, whose work it goes on with and publishes."""
        return self.epoch, not self.portion, self.portion, self.take

    def to_json(self) -> dict[str, Any]:
        """The form it has in checkpoints and manifests (DESIGN §10)."""
        portion = {"number": self.portion, "take": self.take}
        return {
            "worker_id": self.worker_id,
            "epoch": self.epoch,
            **({"portion": portion} if self.portion else {}),
            "node": asdict(self.node),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            **account_to_json(self.spans),
            "rows": self.rows,
            "tokens": asdict(self.tokens),
            "end": self.end,
            **({"lived": account_to_json(self.lived)} if self.lived else {}),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Attempt:
        spans = charges(document)
        return Attempt(
            worker_id=document["worker_id"],
            epoch=document["epoch"],
            node=Node(**document["node"]),
            price=spans[-1].price,
            started_at=document["started_at"],
            ended_at=document["ended_at"],
            end=document["end"],
            buckets=all_seconds(spans),
            rows=document["rows"],
            tokens=TokenCounts(**document["tokens"]),
            portion=document.get("portion", {}).get("number", 0),
            take=document.get("portion", {}).get("take", 0),
            earlier=tuple(spans[:-1]),
            lived=tuple(charges(document["lived"])) if "lived" in document else (),
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Rows finished and engine deaths since the last one, the tokens so far of rows in flight, and
    the attempt's account from its claim until now. Its `end` is "lost" until a later record says
    better."""

    shard_id: int
    epoch: int
    seq: int
    nonce: str
    finished: tuple[FinishedRow, ...]
    in_flight: Mapping[int, tuple[int, ...]]
    attempt: Attempt
    strikes: tuple[Strike, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """All that is known of a shard before this attempt: what is done, begun, and was paid."""

    finished: FinishedRows = field(default_factory=dict[int, FinishedRow])
    in_flight: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    strikes: tuple[Strike, ...] = ()
    unfed: frozenset[int] = frozenset()
    """Epochs whose worker, as far as its session tells, gave no engine a row."""

    @property
    def ended_silently(self) -> bool:
        """Whether the latest attempt ended without a word and without a row it finished.

        One whose worker only loaded says nothing of the rows; two in a row may have had rows that
        kill before a beat can tell.
        """
        # A portion's past has no owners; in a shard's, its helpers say nothing of the owner's rows.
        own = [attempt for attempt in self.attempts if not attempt.portion] or self.attempts
        silent = [attempt.end == "lost" and not attempt.rows for attempt in own[-2:]]
        if not silent or not silent[-1]:
            return False
        return own[-1].epoch not in self.unfed or silent == [True, True]


def in_order(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """As `fold` wants them."""
    return sorted(checkpoints, key=lambda point: (point.attempt.order, point.seq))


def fold(checkpoints: Iterable[Checkpoint], finished: FinishedRows | None = None) -> Progress:
    """A shard's progress from its checkpoints, which come `in_order`.

    In order of attempts, an epoch's helpers before its owner, and in each of seq: the first
    finished row of an index counts, the newest save of a row in flight counts (an epoch continues
    or restarts what the one before it saved, and an owner what its helpers saved, so the newest is
    never older news), and an attempt's account is that of its last checkpoint. Holds one checkpoint
    at a time; `finished`, empty, is filled with the rows. Raises `ValueError` when the order is
    another one.
    """
    rows: FinishedRows = {} if finished is None else finished
    in_flight: dict[int, tuple[int, ...]] = {}
    accounts: dict[tuple[int, bool, int, int], Attempt] = {}
    strikes: dict[tuple[int, int, int], Strike] = {}
    latest: tuple[tuple[int, bool, int, int], int] | None = None
    for point in checkpoints:
        here = (point.attempt.order, point.seq)
        if latest is not None and here < latest:
            raise ValueError(f"checkpoint {here} comes after {latest}")
        latest = here
        for row in point.finished:
            if row.row not in rows:
                rows[row.row] = row
            in_flight.pop(row.row, None)
        in_flight.update(point.in_flight)
        portion = point.attempt.portion
        strikes.update({(strike.epoch, portion, strike.nth): strike for strike in point.strikes})
        accounts[point.attempt.order] = point.attempt
    return Progress(
        finished=rows,
        in_flight={row: tokens for row, tokens in in_flight.items() if row not in rows},
        attempts=tuple(accounts[order] for order in sorted(accounts)),
        strikes=tuple(strikes.values()),
    )


def lost_since(attempt: Attempt, decoded: int, useful_micros: Mapping[NodePrice, int]) -> Attempt:
    """The attempt of a worker that died: what its last beat shows beyond its last checkpoint.

    `decoded` tokens and, by price, `useful_micros` are the beat's totals for this shard and epoch.
    """
    spans = together(attempt.spans) if attempt.buckets.total else {}
    for price, useful in useful_micros.items():
        known = spans.get(price, Buckets())
        if (beyond := useful - known.useful - known.wasted) > 0:
            spans[price] = known.plus("wasted", beyond)
    price = next(reversed(spans), attempt.price)
    return replace(
        attempt,
        price=price,
        buckets=sum(spans.values(), Buckets()),
        earlier=tuple(Span(*span) for span in spans.items() if span[0] != price),
        tokens=replace(attempt.tokens, wasted=max(0, decoded - attempt.tokens.output)),
    )
