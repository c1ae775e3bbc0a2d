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


@pytest.mark.parametrize(
    ("save_seconds", "reserve"), [(0.1, 5), (1, 6), (2, 9), (3, 10), (100, 10)]
)
def test_where_saves_are_quick_less_is_reserved(save_seconds: float, reserve: float) -> None:
    notice = Notice("reclaim", "spot", 30.0)
    assert notice.drains_at(0.0, save_seconds) == 30 - reserve


@given(seen_at=moments, seconds=promised, save_seconds=st.floats(0.0))
def test_the_drain_fits_between(seen_at: float, seconds: float, save_seconds: float) -> None:
    notice = Notice("reclaim", "spot", seconds)
    begins, over = notice.drains_at(seen_at, save_seconds), notice.gone_at(seen_at)
    assert begins is not None
    assert over is not None
    assert seen_at <= begins < over < seen_at + seconds


def test_nobody_said_how_long() -> None:
    notice = Notice("reclaim", "spot")
    assert (notice.drains_at(7.0), notice.gone_at(7.0)) == (7.0, None)
