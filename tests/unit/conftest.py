"""Fixtures that several tests of one part ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.plan_bench import Bench, bench_at


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A job to be planned."""
    return bench_at(tmp_path, monkeypatch)
