"""A worker's seconds: each in one bucket, the useful ones shared out to the shards they served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.core.money import (
    MICROS_PER_SECOND,
    UNKNOWN_PRICE,
    Bucket,
    Buckets,
    NodePrice,
    micros_of,
    share_out,
)
from pipeline.core.portion import AttemptName
from pipeline.core.rows import EngineMetrics, TokenCounts
from pipeline.core.spans import Account, Span, spans_of
from pipeline.held import HeldShard


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Decoded in all, `unshared` of them for no shard; and what each attempt had been seen to have
    decoded. Replaced in one go, so that none is counted twice."""

    decoded: int = 0
    unshared: int = 0
    by_attempt: Mapping[AttemptName, int] = field(default_factory=dict)

    def plus(self, seen: Mapping[AttemptName, int], gained: int) -> _Tokens:
        return _Tokens(self.decoded + gained, self.unshared, {**self.by_attempt, **seen})


class Timesheet:
    """Told in which bucket time passes; `settle` says to which shards. Starts at `now`.

    One thread calls it; `so_far` any thread may read.
    """

    def __init__(self, now: float, boot_micros: int, price: NodePrice = UNKNOWN_PRICE) -> None:
        self.so_far = (now, Account(price, Buckets(boot=boot_micros)))
        """Until when it was told, and the account by then. Replaced in one go."""
        self._tokens = _Tokens()
        self.draft_proposed = 0
        self.draft_accepted = 0
        self._unshared_useful = 0
        self._metrics = EngineMetrics()

    @property
    def price(self) -> NodePrice:
        return self.so_far[1].price

    @property
    def buckets(self) -> Buckets:
        return self.so_far[1].buckets

    @property
    def earlier(self) -> tuple[Span, ...]:
        return self.so_far[1].earlier

    @property
    def spans(self) -> tuple[Span, ...]:
        return self.so_far[1].spans

    def cost_always(self, price: NodePrice) -> None:
        """All seconds until now had this price, which is the first one that is known."""
        until, account = self.so_far
        self.so_far = (until, Account(price, account.buckets))

    def pass_to(self, now: float, bucket: Bucket, shard: HeldShard | None = None) -> None:
        """Put the time since the last call into `bucket`, charged to `shard` if it is overhead."""
        until, account = self.so_far
        micros = micros_of(now - until)
        # Moved by whole microseconds, so that what rounding leaves is counted next time.
        self.so_far = (until + micros / MICROS_PER_SECOND, account.plus(bucket, micros))
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
        decoded yet (prefill) is shared equally. An exception may be raised into it at any moment,
        as Prefect does to stop a flow: what is shared out is taken away first, so that it may be
        in no shard's account, and is in none twice.
        """
        decoded = {name: shard.decoded(tokens) for name, shard in held.items()}
        busy = [s for s, shard in held.items() if shard.running or self._gain(shard, decoded[s])]
        weights = {s: self._gain(held[s], decoded[s]) for s in busy}
        proposed = share_out(m.draft_proposed - self._metrics.draft_proposed, weights)
        accepted = share_out(m.draft_accepted - self._metrics.draft_accepted, weights)
        useful = share_out(self._unshared_useful, weights)
        if not weights:
            return decoded
        self._unshared_useful = 0
        self._metrics = m
        self._tokens = self._tokens.plus({s: decoded[s] for s in busy}, sum(weights.values()))
        self.draft_proposed += sum(proposed.values())
        self.draft_accepted += sum(accepted.values())
        for s in weights:
            shard = held[s]
            shard.buckets = shard.buckets.plus("useful", useful[s])
            shard.tokens += TokenCounts(draft_proposed=proposed[s], draft_accepted=accepted[s])
        return decoded

    @property
    def decoded(self) -> int:
        return self._tokens.decoded

    @property
    def unshared(self) -> int:
        return self._tokens.unshared

    @property
    def all_shared(self) -> bool:
        """Whether no second waits to be shared out, with the price that it had."""
        return self._unshared_useful == 0

    def reprice(self, price: NodePrice, held: Iterable[HeldShard]) -> None:
        """From now on seconds have this price; only when `all_shared`."""
        for shard in held:
            before = spans_of(self.price, shard.buckets, shard.earlier)
            shard.earlier = tuple(s for s in before if s.price != price and s.buckets.total)
        until, account = self.so_far
        self.so_far = (until, account.repriced(price))

    def count_unshared(self, decoded: int) -> None:
        """Tokens that were decoded, and paid for, for no shard."""
        known = self._tokens
        self._tokens = replace(
            known, decoded=known.decoded + decoded, unshared=known.unshared + decoded
        )

    def engine_replaced(self) -> None:
        """The next engine counts its metrics from nothing."""
        self._metrics = EngineMetrics()

    def write_off(self, shard: HeldShard) -> None:
        """Useful time of a shard that somebody else finished: it was wasted after all."""
        useful = {price: spent.useful for price, spent in shard.earlier}
        until, account = self.so_far
        earlier = tuple(
            Span(price, _wasted(spent, useful.get(price, 0))) for price, spent in account.earlier
        )
        buckets = _wasted(account.buckets, shard.buckets.useful)
        self.so_far = (until, Account(account.price, buckets, earlier))

    def _gain(self, shard: HeldShard, decoded: int) -> int:
        return max(0, decoded - self._tokens.by_attempt.get(shard.name, 0))


def _wasted(spent: Buckets, useful_micros: int) -> Buckets:
    return replace(spent, useful=spent.useful - useful_micros, wasted=spent.wasted + useful_micros)
