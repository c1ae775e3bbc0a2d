"""Keys that are written can be read back, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import layout
from tests.unit.strategies import bounded

run_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
# Five digits for a shard and six for an epoch are a width, not a limit.
shard_ids = st.one_of(st.integers(0, 99_999), st.integers(100_000, 10**9))
numbers = st.one_of(st.integers(0, 999_999), st.integers(1_000_000, 10**10))


@bounded
@given(run_ids, shard_ids, numbers, numbers)
def test_ids_of_any_size_come_back_from_their_keys(
    run_id: str, shard_id: int, epoch: int, seq: int
) -> None:
    assert layout.shard_of_part(layout.part_key(run_id, shard_id)) == shard_id
    assert layout.lease_of(layout.lease_key(run_id, shard_id, epoch)) == (shard_id, epoch)
    for portion, take in ((0, 0), (3, 2)):
        key = layout.checkpoint_key(run_id, shard_id, epoch, seq, portion, take)
        assert layout.checkpoint_of(key) == (shard_id, epoch, seq, portion, take)
    assert layout.portion_of(layout.portion_key(run_id, shard_id, epoch, 3)) == (shard_id, epoch, 3)
    take_key = layout.take_key(run_id, shard_id, epoch, 3, 2)
    assert layout.take_of(take_key) == (shard_id, epoch, 3, 2)
    assert layout.portion_of(take_key) is None
    assert layout.lease_of(take_key) is None
    ask_key = layout.ask_key(run_id, shard_id, "w-1-000002", 7)
    assert layout.ask_of(ask_key) == (shard_id, "w-1-000002", 7)
    job_run_key = layout.job_run_key("night", "2026-11-20T01:02:03.004Z", run_id)
    assert layout.job_run_of(job_run_key) == ("20261120T010203004", run_id)


@bounded
@given(run_ids, shard_ids, shard_ids)
def test_a_shards_prefix_holds_its_keys_and_no_other_shards(
    run_id: str, shard_id: int, other: int
) -> None:
    for prefix, key_of_other in (
        (layout.leases_prefix(run_id, shard_id), layout.lease_key(run_id, other, 1)),
        (layout.checkpoints_prefix(run_id, shard_id), layout.checkpoint_key(run_id, other, 1, 1)),
    ):
        assert key_of_other.startswith(prefix) == (shard_id == other)


def test_keys_are_spelled_as_the_design_says() -> None:
    run = "nightly-2026-11-20"
    assert layout.part_key(run, 12) == f"data/run={run}/part-00012.parquet"
    assert layout.job_key(run) == f"runs/{run}/job.json"
    assert layout.plan_key(run) == f"runs/{run}/plan.parquet"
    assert layout.lease_key(run, 12, 3) == f"runs/{run}/leases/00012/000003.json"
    assert layout.session_key(run, "w1") == f"runs/{run}/sessions/w1.json"
    assert layout.last_beat_key(run, "w1") == f"runs/{run}/ended/w1.json"
    assert (
        layout.checkpoint_key(run, 12, 3, 7)
        == f"runs/{run}/checkpoints/00012/000003-000007.parquet"
    )
    assert layout.shard_manifest_key(run, 12) == f"runs/{run}/manifests/part-00012.json"
    assert layout.run_manifest_key(run) == f"runs/{run}/manifest.json"
    assert layout.costs_key(run) == f"runs/{run}/costs.parquet"
    assert layout.focus_key(run) == f"runs/{run}/focus.parquet"


@pytest.mark.parametrize(
    "key",
    [
        "data/run=a/part-00012.parquet.tmp",
        "data/run=a/part-0012.parquet",
        "data/run=a/part-00012.json",
        "data/run=a/_SUCCESS",
        "data/run=a/below/part-00012.parquet",
        "data/run=../part-00012.parquet",
        "part-00012.parquet",
        "runs/a/leases/00012/3.json",
        "runs/a/leases/00012/000003.json.bak",
        "runs/a/checkpoints/00012/000003.parquet",
        "",
    ],
)
def test_foreign_objects_are_nobodys(key: str) -> None:
    assert layout.shard_of_part(key) is None
    assert layout.lease_of(key) is None
    assert layout.checkpoint_of(key) is None


def test_the_rows_and_the_facts_of_a_run_lie_apart() -> None:
    assert not layout.part_key("a", 1).startswith(layout.run_prefix("a"))
