"""A worker's seconds: each in one bucket, the useful ones shared out to the shards they served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.core.money import (
    MICROS_PER_SECOND,
    UNKNOWN_PRICE,
    Bucket,
    Buckets,
    NodePrice,
    share_out,
)
from pipeline.core.portion import AttemptName
from pipeline.core.rows import EngineMetrics, TokenCounts
from pipeline.core.spans import Span, spans_of
from pipeline.held import HeldShard


class Timesheet:
    """Told in which bucket time passes; `settle` says to which shards. Starts at `now`."""

    def __init__(self, now: float, boot_micros: int, price: NodePrice = UNKNOWN_PRICE) -> None:
        self.price = price
        self.buckets = Buckets(boot=boot_micros)
        self.earlier: tuple[Span, ...] = ()
        self.decoded = 0
        self.unshared = 0
        self.draft_proposed = 0
        self.draft_accepted = 0
        self._mark = now
        self._unshared_useful = 0
        self._decoded_of: dict[AttemptName, int] = {}
        self._metrics = EngineMetrics()

    def pass_to(self, now: float, bucket: Bucket, shard: HeldShard | None = None) -> None:
        """Put the time since the last call into `bucket`, charged to `shard` if it is overhead."""
        micros = round((now - self._mark) * MICROS_PER_SECOND)
        # Moved by whole microseconds, so that what rounding leaves is counted next time.
        self._mark += micros / MICROS_PER_SECOND
        self.buckets = self.buckets.plus(bucket, micros)
        if bucket == "useful":
            self._unshared_useful += micros
        elif shard is not None:
            shard.buckets = shard.buckets.plus(bucket, micros)

    def settle(
        self,
        held: Mapping[AttemptName, HeldShard],
        tokens: Mapping[str, Sequence[int]],
        m: EngineMetrics,
    ) -> dict[AttemptName, int]:
        """Share useful time and draft tokens since the last settling by the tokens decoded in it.

        Returns what each held shard's attempt has decoded so far. Time in which nothing was
        decoded yet (prefill) is shared equally.
        """
        decoded = {name: shard.decoded(tokens) for name, shard in held.items()}
        busy = [s for s, shard in held.items() if shard.running or self._gain(shard, decoded[s])]
        weights = {s: self._gain(held[s], decoded[s]) for s in busy}
        proposed = share_out(m.draft_proposed - self._metrics.draft_proposed, weights)
        accepted = share_out(m.draft_accepted - self._metrics.draft_accepted, weights)
        useful = share_out(self._unshared_useful, weights)
        for s in weights:
            shard = held[s]
            shard.buckets = shard.buckets.plus("useful", useful[s])
            shard.tokens += TokenCounts(draft_proposed=proposed[s], draft_accepted=accepted[s])
            self.decoded += weights[s]
            self._decoded_of[s] = decoded[s]
        if weights:
            self._unshared_useful = 0
            self.draft_proposed += m.draft_proposed - self._metrics.draft_proposed
            self.draft_accepted += m.draft_accepted - self._metrics.draft_accepted
            self._metrics = m
        return decoded

    @property
    def spans(self) -> tuple[Span, ...]:
        return spans_of(self.price, self.buckets, self.earlier)

    @property
    def all_shared(self) -> bool:
        """Whether no second waits to be shared out, with the price that it had."""
        return self._unshared_useful == 0

    def reprice(self, price: NodePrice, held: Iterable[HeldShard]) -> None:
        """From now on seconds have this price; only when `all_shared`."""
        for shard in held:
            before = spans_of(self.price, shard.buckets, shard.earlier)
            shard.earlier = tuple(s for s in before if s.price != price and s.buckets.total)
        before = spans_of(self.price, self.buckets, self.earlier)
        # A price that comes back goes on where it was left.
        self.earlier = tuple(span for span in before if span.price != price)
        self.price = price

    def count_unshared(self, decoded: int) -> None:
        """Tokens that were decoded, and paid for, for no shard."""
        self.decoded += decoded
        self.unshared += decoded

    def engine_replaced(self) -> None:
        """The next engine counts its metrics from nothing."""
        self._metrics = EngineMetrics()

    def write_off(self, shard: HeldShard) -> None:
        """Useful time of a shard that somebody else finished: it was wasted after all."""
        useful = {price: spent.useful for price, spent in shard.earlier}
        self.earlier = tuple(
            Span(price, _wasted(spent, useful.get(price, 0))) for price, spent in self.earlier
        )
        self.buckets = _wasted(self.buckets, shard.buckets.useful)

    def _gain(self, shard: HeldShard, decoded: int) -> int:
        return max(0, decoded - self._decoded_of.get(shard.name, 0))


def _wasted(spent: Buckets, useful_micros: int) -> Buckets:
    return replace(spent, useful=spent.useful - useful_micros, wasted=spent.wasted + useful_micros)
