"""Who may work on a shard. Every judgement here is economy: losing one costs duplicate work, never
a row, because a result counts only by `create` (DESIGN §4)."""

from __future__ import annotations

from dataclasses import dataclass, field

BEATS_IN_A_LEASE = 4
"""How often a worker beats, so that one or two that are lost don't cost it its shards."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim, created once and never changed. `nonce` makes its body unlike any other."""

    shard_id: int
    epoch: int
    worker_id: str
    nonce: str
    claimed_at: str


@dataclass(slots=True)
class BeatWatch:
    """How long each worker's beat has stood still, by the observer's own monotonic clock."""

    _first_seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    _moved: set[str] = field(default_factory=set)

    def observe(self, worker_id: str, number: int, now: float) -> None:
        known = self._first_seen.get(worker_id)
        if known is not None and known[0] == number:
            return
        if known is not None:
            self._moved.add(worker_id)
        self._first_seen[worker_id] = (number, now)

    def still_for(self, worker_id: str, now: float) -> float:
        """Seconds since this observer saw the worker's beat change; 0 when never observed."""
        known = self._first_seen.get(worker_id)
        return 0.0 if known is None else now - known[1]

    def seen_alive(self, worker_id: str) -> bool:
        """True once this observer has seen the worker's beat move."""
        return worker_id in self._moved


def may_claim(
    lease: object | None, *, holder_over: bool, silent_for: float, lease_seconds: float
) -> bool:
    """Whether a shard with this latest lease, or a portion with this latest take, is free: never
    held, let go, or its holder silent.

    `silent_for` is how long the observer, by its own clock, has seen the holder's beat stand still.
    """
    return lease is None or holder_over or silent_for >= lease_seconds
