"""Who may claim, and how long a beat has stood still by the observer's own clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.lease import BeatWatch, Lease, may_claim
from tests.unit.strategies import bounded

LEASE = Lease(3, 1, "w1", "nonce", "2026-11-20T00:00:00Z")
seconds = st.floats(0, 1e6)


def test_a_shard_never_held_is_free() -> None:
    assert may_claim(None, holder_over=False, silent_for=0.0, lease_seconds=30.0)


def test_a_shard_whose_holder_ended_is_free_at_once() -> None:
    assert may_claim(LEASE, holder_over=True, silent_for=0.0, lease_seconds=30.0)


@bounded
@given(silent=seconds, lease=seconds)
def test_a_held_shard_is_free_after_the_leases_silence(silent: float, lease: float) -> None:
    free = may_claim(LEASE, holder_over=False, silent_for=silent, lease_seconds=lease)
    assert free == (silent >= lease)


def test_silence_begins_when_the_observer_looks_first() -> None:
    watch = BeatWatch()
    assert watch.still_for("w1", 100.0) == 0.0
    watch.observe("w1", 7, 100.0)
    watch.observe("w1", 7, 130.0)
    assert watch.still_for("w1", 130.0) == 30.0
    assert not watch.seen_alive("w1")


def test_a_beat_that_moves_ends_the_silence() -> None:
    watch = BeatWatch()
    watch.observe("w1", 7, 100.0)
    watch.observe("w1", 8, 120.0)
    assert watch.still_for("w1", 121.0) == 1.0
    assert watch.seen_alive("w1")
    assert watch.still_for("w2", 121.0) == 0.0
    assert not watch.seen_alive("w2")


@bounded
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 3), st.integers(0, 50))))
def test_a_watch_agrees_with_the_whole_record(looks: list[tuple[str, int, int]]) -> None:
    watch, now, seen = BeatWatch(), 0, dict[str, list[tuple[int, int]]]()
    for worker, beat, later in looks:
        now += later
        watch.observe(worker, beat, now)
        seen.setdefault(worker, []).append((beat, now))
    for worker, record in seen.items():
        last = record[-1][0]
        since = now
        for beat, at in reversed(record):
            if beat != last:
                break
            since = at
        assert watch.still_for(worker, now) == now - since
        assert watch.seen_alive(worker) == (len({beat for beat, _ in record}) > 1)
