"""How many workers a run wants, and which ones to count on: pure functions of what is observed."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.session import Session

BOOT_SECONDS = 900.0
"""A worker that was asked for and has no session by then is counted as lost (a flow run that stays
pending, a node that never came)."""


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker ended: `problem` is None for a clean end or a drain; a `fatal` one would meet
    every other worker too."""

    problem: str | None = None
    fatal: bool = False


def counts_as_live(
    session: Session | None,
    *,
    asked_for: float | None,
    still_for: float,
    now: float,
    lease_seconds: float,
) -> bool:
    """Whether a worker is to be counted on, by the supervisor's own clock.

    `asked_for` is when this supervisor started it, None for a stranger: a worker that somebody else
    started, or that the pool says is over. `still_for` is how long its beat was seen to stand
    still. Wrong either way costs a worker that finds nothing to do, or a wait; leases keep shards
    from harm.
    """
    if session is None:
        return asked_for is not None and now - asked_for < BOOT_SECONDS
    if session.over:
        return False
    # Workers beat four times in a lease. A stranger's silence is believed sooner: after a crash of
    # everything, new workers can load their models while the old leases run out.
    return still_for < (lease_seconds if asked_for is not None else lease_seconds / 2)


def workers_at_once(wanted: int, shards: int) -> int:
    """How many workers live beside each other at most: none is started that finds no shard."""
    return max(1, min(wanted, shards))


def workers_to_start(
    *, unclaimed: int, holders: int, live: int, wanted: int, helping: int = 0
) -> int:
    """Workers to start now: up to `wanted`, but none that would find nothing to do.

    Of the `live`, those `helping` have rows of another's shard in hand and none of their own: they
    are busy for a while, and a shard that becomes free does not wait for them.

    `holders` are the workers with unfinished shards in hand whose sessions did not end. One of them
    that is not among the `live` has died: its successor is started at once, and loads its model
    while the lease runs out.
    """
    return max(0, min(wanted, unclaimed + holders + helping) - live)


def gives_up(*, failed: int, vanished: int, wanted: int) -> bool:
    """Whether a run should stop replacing workers, without one row finished in between.

    `failed` said why, which soon is reason enough: three for each place in the fleet. `vanished`
    ended without a word, as preempted ones do too: ten, for a fleet may be taken several times
    before it has loaded its models.
    """
    places = max(1, wanted)
    return failed >= 3 * places or failed + vanished >= 10 * places
