"""When a notice has a worker begin its drain, and when the drain has to be over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.notice import Notice

promised = st.floats(1.0, 600.0)
moments = st.floats(0.0, 1e6)


def test_a_risk_never_begins_a_drain() -> None:
    assert Notice("risk", "rebalance").drains_at(7.0) is None


@given(seen_at=moments, seconds=st.none() | promised)
def test_a_stop_begins_it_at_once(seen_at: float, seconds: float | None) -> None:
    assert Notice("stop", "SIGTERM", seconds).drains_at(seen_at) == seen_at


@pytest.mark.parametrize(
    ("seconds", "begins", "over"), [(120, 110, 117), (30, 20, 27), (15, 5, 12), (9, 3, 7.2)]
)
def test_a_reclaim_uses_the_time_but_for_a_reserve(
    seconds: float, begins: float, over: float
) -> None:
    notice = Notice("reclaim", "spot", seconds)
    assert notice.drains_at(1_000.0) == 1_000 + begins
    assert notice.gone_at(1_000.0) == 1_000 + over


@given(seen_at=moments, seconds=promised)
def test_the_drain_fits_between(seen_at: float, seconds: float) -> None:
    notice = Notice("reclaim", "spot", seconds)
    begins, over = notice.drains_at(seen_at), notice.gone_at(seen_at)
    assert begins is not None
    assert over is not None
    assert seen_at <= begins < over < seen_at + seconds


def test_nobody_said_how_long() -> None:
    notice = Notice("reclaim", "spot")
    assert (notice.drains_at(7.0), notice.gone_at(7.0)) == (7.0, None)
