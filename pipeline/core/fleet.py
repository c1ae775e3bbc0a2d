"""How many workers a run wants: one pure function for production, simulation and prediction."""

from __future__ import annotations


def workers_to_start(*, shards_left: int, live: int, wanted: int) -> int:
    """Workers to start now: up to `wanted`, but never more than there are shards to hand out."""
    return max(0, min(wanted, shards_left) - live)


def gives_up(*, failures_without_progress: int, wanted: int) -> bool:
    """Whether a run should stop replacing workers: each place in the fleet has failed three times
    and not one shard was published in between."""
    return failures_without_progress >= 3 * max(1, wanted)
