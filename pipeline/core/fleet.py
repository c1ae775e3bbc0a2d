"""How many workers a run wants: one pure function for production, simulation and prediction."""

from __future__ import annotations


def workers_to_start(*, unclaimed: int, holders: int, live: int, wanted: int) -> int:
    """Workers to start now: up to `wanted`, but none that would find nothing to do.

    `holders` are the workers with unfinished shards in hand whose sessions did not end. One of them
    that is not among the `live` has died: its successor is started at once, and loads its model
    while the lease runs out.
    """
    return max(0, min(wanted, unclaimed + holders) - live)


def gives_up(*, failures_without_progress: int, wanted: int) -> bool:
    """Whether a run should stop replacing workers: each place in the fleet has failed three times
    and not one shard was published in between."""
    return failures_without_progress >= 3 * max(1, wanted)
