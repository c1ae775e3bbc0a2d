"""Any mix of refused, torn and lost store calls: workers may end, the run comes out the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_fixed

from pipeline.core.errors import StoreUnavailable
from pipeline.core.ports import ObjectStore
from pipeline.stores.faults import LOST, NO_FAULT, REFUSED, TORN, Call, Fault, FaultPlan
from pipeline.stores.retry import RetryingStore, RetryPolicy
from pipeline.worker import WorkerReport
from tests.simulation.world import EXACT, RESTARTS, Ending, World, small_workload

worlds = settings(deadline=None, max_examples=60)


def now_and_then(seed: int, share: float, lists_lag: bool = False) -> FaultPlan:
    dice = random.Random(seed)

    def fault(call: Call) -> Fault:
        if dice.random() < share:
            return dice.choice((REFUSED, TORN, LOST))
        if lists_lag and call.verb == "list" and dice.random() < share:
            return Fault(stale=dice.randrange(1, 4))
        return NO_FAULT

    return fault


def until_published(world: World, workers: int = 60) -> list[Ending]:
    endings: list[Ending] = []
    while len(world.ledger.published()) < len(world.shards):
        assert len(endings) < workers, "workers come and go, and the run does not end"
        endings.append(world.work())
    assert all(isinstance(end, WorkerReport | StoreUnavailable) for end in endings), endings
    return endings


@worlds
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.02, 0.1, 0.3]))
def test_a_run_over_a_failing_store_comes_out_the_same(seed: int, share: float) -> None:
    world = World(small_workload(EXACT, RESTARTS), faults=now_and_then(seed, share))
    until_published(world)
    world.check_invariants(world.finish())


@worlds
@given(seed=st.integers(0, 2**32))
def test_a_listing_that_lags_costs_work_and_no_row(seed: int) -> None:
    world = World(small_workload(EXACT, RESTARTS), faults=now_and_then(seed, 0.1, lists_lag=True))
    until_published(world)
    world.check_invariants(world.finish())


@worlds
@given(seed=st.integers(0, 2**32))
def test_a_retried_store_hides_what_passes(seed: int) -> None:
    world = World(small_workload(EXACT, RESTARTS), faults=now_and_then(seed, 0.2))
    policy = RetryPolicy(stop_after_attempt(20), wait_fixed(0.25), world.clock.sleep)

    def retried(store: ObjectStore) -> ObjectStore:
        return RetryingStore(store, policy)

    world.wrap_store = retried
    endings = until_published(world)
    assert len(endings) == 1
    report = endings[0]
    assert isinstance(report, WorkerReport)
    assert report.shards_published == 2
    manifest = world.finish()
    world.check_invariants(manifest)
    assert manifest["tokens"]["wasted"] == 0
