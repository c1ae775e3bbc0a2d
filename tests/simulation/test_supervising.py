"""A supervisor over workers that die, never come, fall silent, refuse, and cost money."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.budget import Announce, announce_nothing
from pipeline.core.errors import (
    BudgetReached,
    Interrupted,
    PoolUnavailable,
    StoreUnavailable,
    WorkersFailed,
)
from pipeline.core.fleet import BOOT_SECONDS, WorkerEnd
from pipeline.core.money import UNKNOWN_PRICE
from pipeline.core.ports import InterruptionNotice, ObjectStore
from pipeline.stores.faults import NO_FAULT, REFUSED, Call, Fault, FaultyStore
from pipeline.supervisor import FATAL_ERRORS, FleetSettings, Supervisor
from tests.simulation.fakes import NoticeAt
from tests.simulation.scripted_pool import WELL, House, Life, ScriptedPool

NEVER_COMES = Life(boot_seconds=None)
KILLED_IN_BOOT = Life(boot_seconds=4.0, dies_at=2.0)
KILLED_IN_LOAD = Life(boot_seconds=1.0, load_seconds=9.0, dies_at=5.0)
KILLED_AT_WORK = Life(last_rows=1)
LOST = Life(last_rows=1, death=None)
"""Its machine is gone, and the pool calls it running for ever."""


def supervise(
    pool: ScriptedPool,
    *,
    workers: int = 1,
    store: ObjectStore | None = None,
    notice: InterruptionNotice | None = None,
    budget_usd: str | None = None,
    warn_usd: str | None = None,
    drain_seconds: float = 0.0,
    patience_seconds: float = 600.0,
    stops: int = 1,
    more_alive: int = 0,
    announce: Announce = announce_nothing,
) -> None:
    """A supervisor's whole life; however it ends, its workers are asked to stop, once."""
    house = pool.house
    fleet = FleetSettings(
        workers=workers,
        lease_seconds=house.lease_seconds,
        patience_seconds=patience_seconds,
        budget_usd=None if budget_usd is None else Decimal(budget_usd),
        warn_usd=None if warn_usd is None else Decimal(warn_usd),
        drain_seconds=drain_seconds,
    )
    supervisor = Supervisor(
        house.ledger_over(store or house.memory),
        list(house.rows),
        pool,
        house.clock,
        notice or NoticeAt(),
        fleet,
        announce=announce,
    )
    try:
        supervisor.run()
    finally:
        assert pool.stops_asked == stops
        assert pool.most_alive <= workers + more_alive
    assert house.complete


@dataclass(slots=True)
class Orphans:
    """Workers of a supervisor that was killed: nobody asks them anything, and they live on."""

    house: House
    pool: ScriptedPool = field(init=False)

    def start(self, *lives: Life) -> None:
        self.pool = ScriptedPool(self.house, lives)
        for nth in range(len(lives)):
            self.pool.start(f"orphan-{nth}")


def between(first: float, last: float, house: House) -> Callable[[], bool]:
    """True from virtual second `first` until `last`."""
    return lambda: first <= house.clock.now() < last


# The good night.


def test_a_published_run_returns_and_starts_nobody() -> None:
    pool = ScriptedPool(House({0: 3, 1: 3}))
    pool.house.publish(0, 1)
    supervise(pool)
    assert pool.started_at == []


@pytest.mark.parametrize(("workers", "started"), [(1, 1), (2, 2), (9, 3)])
def test_workers_are_started_once_and_no_more_than_there_are_shards(
    workers: int, started: int
) -> None:
    pool = ScriptedPool(House({0: 20, 1: 20, 2: 20}))
    supervise(pool, workers=workers)
    assert pool.started_at == [0.0] * started


def test_the_last_beats_are_waited_for_but_not_for_ever() -> None:
    pool = ScriptedPool(House({0: 3}), (NEVER_COMES, WELL))
    pool.start("never told of")
    supervise(pool)
    assert pool.house.clock.now() < 90


def test_a_worker_that_finds_nothing_is_not_started_again_and_again() -> None:
    takes_all = Life(holds=2, row_seconds=5.0)
    pool = ScriptedPool(House({0: 20, 1: 20}), (takes_all, Life(boot_seconds=9.0)))
    supervise(pool, workers=2)
    assert len(pool.started_at) == 2
    assert [w.session.rows for w in pool.workers.values()] == [40, 0]


# Workers that go.


@pytest.mark.parametrize("life", [KILLED_IN_BOOT, KILLED_AT_WORK], ids=["booting", "at work"])
def test_a_killed_worker_is_replaced(life: Life) -> None:
    pool = ScriptedPool(House({0: 8}), (life,))
    supervise(pool)
    assert len(pool.started_at) == 2
    assert pool.started_at[1] < 20


def test_a_worker_killed_while_it_loads_is_replaced_when_the_pool_tells_of_it() -> None:
    pool = ScriptedPool(House({0: 8}), (KILLED_IN_LOAD,))
    supervise(pool)
    assert pool.started_at[1] < 20


def test_a_lost_machine_is_replaced_though_the_pool_calls_it_running() -> None:
    house = House({0: 8})
    pool = ScriptedPool(house, (LOST,))
    supervise(pool)
    [first, second] = pool.started_at
    assert house.lease_seconds <= second - first < 3 * house.lease_seconds
    assert pool.running() == 1


def test_a_worker_that_never_comes_is_replaced_when_it_should_have_booted() -> None:
    pool = ScriptedPool(House({0: 3}), (NEVER_COMES,))
    supervise(pool)
    [first, second] = pool.started_at
    assert BOOT_SECONDS <= second - first < BOOT_SECONDS + 2


def test_one_dead_holder_among_the_living_gets_one_successor() -> None:
    pool = ScriptedPool(House({0: 30, 1: 30, 2: 30}), (WELL, KILLED_AT_WORK))
    supervise(pool, workers=3)
    assert len(pool.started_at) == 4


workers_wanted = pytest.mark.parametrize("workers", [1, 2, 3])


@workers_wanted
def test_kills_for_ever_with_a_row_in_between_never_end_the_run(workers: int) -> None:
    pool = ScriptedPool(House({0: 9, 1: 9, 2: 9}), forever=KILLED_AT_WORK)
    supervise(pool, workers=workers)
    assert len(pool.started_at) > 3 * workers + 3


@workers_wanted
@pytest.mark.parametrize(
    ("life", "at_a_place"),
    [
        (KILLED_IN_BOOT, 10),
        (Life(row_seconds=3.0, last_rows=0), 10),
        (Life(error_kind="EngineDied"), 3),
    ],
    ids=["booting", "at work", "engine died"],
)
def test_ends_without_a_row_end_the_run(life: Life, at_a_place: int, workers: int) -> None:
    """Sooner if they tell what is wrong than if they may have been preempted."""
    pool = ScriptedPool(House({0: 9, 1: 9, 2: 9}), forever=life)
    with pytest.raises(WorkersFailed, match="without finishing a row"):
        supervise(pool, workers=workers)
    ended = len(pool.workers) - pool.running()
    assert at_a_place * workers <= ended < (at_a_place + 1) * workers


def test_rows_finished_in_between_start_the_count_anew() -> None:
    twice = (KILLED_IN_BOOT, KILLED_IN_BOOT)
    pool = ScriptedPool(House({0: 9}), (*twice, KILLED_AT_WORK, *twice[1:], KILLED_AT_WORK))
    supervise(pool)
    assert len(pool.started_at) == 6


# Workers that the pool's own platform starts again, under the same id.


def lives_of(house: House) -> list[str]:
    """The session ids, each without the part that a supervisor drew."""
    return sorted(name.partition(".")[2] for name in house.ledger.sessions.worker_ids())


def test_a_worker_that_its_platform_starts_again_is_the_one_that_was_asked_for() -> None:
    thrice = replace(KILLED_AT_WORK, again=replace(KILLED_AT_WORK, again=WELL))
    pool = ScriptedPool(House({0: 9}), (thrice,))
    supervise(pool)
    assert pool.started_at == [0.0]
    assert lives_of(pool.house) == ["", "2", "3"]


def test_a_place_is_filled_though_the_life_before_beat_a_moment_ago() -> None:
    """Two lives of one worker are one worker."""
    again = Life(last_rows=1, again=Life(row_seconds=2.0))
    house = House({0: 30, 1: 30, 2: 30}, lease_seconds=60.0)
    pool = ScriptedPool(house, (again, Life(dies_at=8.0)))
    supervise(pool, workers=2)
    assert len(pool.started_at) == 3
    assert pool.started_at[2] < house.lease_seconds


def test_one_that_takes_long_to_come_back_is_replaced_once() -> None:
    slow = replace(KILLED_AT_WORK, again=Life(boot_seconds=30.0))
    pool = ScriptedPool(House({0: 60}), (slow,))
    supervise(pool, more_alive=1)
    assert len(pool.started_at) == 2


def test_what_its_last_life_said_explains_its_end() -> None:
    dies = replace(KILLED_IN_LOAD, again=Life(error_kind="EngineDied"))
    pool = ScriptedPool(House({0: 9}), forever=dies)
    with pytest.raises(WorkersFailed, match="without finishing a row"):
        supervise(pool)
    assert len(pool.started_at) == 3


# Workers of a supervisor that was killed.


def test_orphans_that_live_leave_nothing_to_start() -> None:
    house = House({0: 20, 1: 20})
    Orphans(house).start(WELL, WELL)
    house.clock.sleep(8)
    pool = ScriptedPool(house)
    supervise(pool, workers=2)
    assert pool.started_at == []


def test_an_orphan_that_only_loads_is_waited_for_since_it_beats() -> None:
    house = House({0: 5})
    Orphans(house).start(Life(load_seconds=600.0))
    house.clock.sleep(8)
    pool = ScriptedPool(house)
    supervise(pool)
    assert pool.started_at == []


def wait_for_orphan(life: Life, notice: InterruptionNotice | None = None) -> tuple[House, float]:
    """A supervisor comes when all is published, and an orphan lives; for how long it stays."""
    house = House({0: 5})
    house.publish(0)
    Orphans(house).start(life)
    house.clock.sleep(8)
    supervise(ScriptedPool(house), notice=notice)
    return house, house.clock.now() - 8


def test_books_are_closed_when_orphans_have_said_their_last() -> None:
    house, waited = wait_for_orphan(Life(load_seconds=300.0))
    assert house.ledger.sessions.all()["orphan-0"].state == "ended"
    assert waited == pytest.approx(293, abs=2)


def test_an_orphan_that_stands_still_for_a_lease_is_not_waited_for() -> None:
    house, waited = wait_for_orphan(Life(load_seconds=300.0, dies_at=60.0))
    assert not house.ledger.sessions.all()["orphan-0"].over
    assert waited == pytest.approx(60 - 8 + house.lease_seconds, abs=3)


def test_no_orphan_holds_the_books_open_for_ever() -> None:
    house, waited = wait_for_orphan(Life(load_seconds=9_000.0))
    assert not house.ledger.sessions.all()["orphan-0"].over
    assert waited == pytest.approx(600, abs=2)


def test_a_supervisor_that_is_to_go_closes_the_books_rather_than_wait() -> None:
    _, waited = wait_for_orphan(Life(load_seconds=300.0), NoticeAt(20))
    assert waited < 30


def test_where_nobody_lives_nobody_is_waited_for() -> None:
    """Not even for those that died, where they were seen to stand still long enough before."""
    house = House({0: 3})
    house.publish(0)
    supervise(ScriptedPool(house))
    assert house.clock.now() == 0
    house = House({0: 30, 1: 30})
    pool = ScriptedPool(house, (KILLED_AT_WORK,))
    supervise(pool, workers=2)
    ended = max(worker.age for worker in pool.workers.values() if worker.session.over)
    assert house.clock.now() < ended + 2


def test_a_store_that_is_away_at_the_end_is_asked_again() -> None:
    house = House({0: 5})
    house.publish(0)
    Orphans(house).start(Life(load_seconds=20.0))
    house.clock.sleep(8)
    supervise(ScriptedPool(house), store=away_store(house, 9, 40))
    assert house.ledger.sessions.all()["orphan-0"].state == "ended"


def test_one_orphan_of_two_wanted_is_joined_by_one() -> None:
    house = House({0: 20, 1: 20, 2: 20})
    Orphans(house).start(WELL)
    house.clock.sleep(8)
    pool = ScriptedPool(house)
    supervise(pool, workers=2)
    assert len(pool.started_at) == 1


def test_orphans_that_die_are_replaced() -> None:
    house = House({0: 20, 1: 20})
    Orphans(house).start(Life(dies_at=12.0), Life(dies_at=12.0))
    house.clock.sleep(8)
    pool = ScriptedPool(house)
    supervise(pool, workers=2)
    assert len(pool.started_at) == 2
    assert min(pool.started_at) >= 12


def test_orphans_that_died_before_are_replaced_before_their_leases_run_out() -> None:
    house = House({0: 20})
    Orphans(house).start(Life(dies_at=6.0))
    house.clock.sleep(8)
    pool = ScriptedPool(house)
    supervise(pool)
    [started] = pool.started_at
    assert started < 8 + house.lease_seconds


# Errors that every worker would meet.


@pytest.mark.parametrize("kind", [*sorted(FATAL_ERRORS), "EngineFailed"])
def test_an_error_that_all_would_meet_stops_the_run_at_once(kind: str) -> None:
    pool = ScriptedPool(House({0: 9}), (Life(error_kind=kind),))
    with pytest.raises(WorkersFailed, match=f"said of {kind}"):
        supervise(pool)
    assert len(pool.started_at) == 1


@pytest.mark.parametrize("boot_seconds", [0.5, 9.0])
def test_an_engine_that_starts_on_other_nodes_costs_a_replacement(boot_seconds: float) -> None:
    bad_node = Life(boot_seconds=boot_seconds, load_seconds=0.5, error_kind="EngineFailed")
    pool = ScriptedPool(House({0: 9, 1: 9}), (WELL, bad_node))
    supervise(pool, workers=2)
    assert len(pool.started_at) > 2


def test_an_engine_that_starts_on_no_node_stops_the_run_at_the_second() -> None:
    pool = ScriptedPool(House({0: 9, 1: 9, 2: 9}), forever=Life(error_kind="EngineFailed"))
    with pytest.raises(WorkersFailed, match="said of EngineFailed"):
        supervise(pool, workers=3)
    assert len(pool.started_at) <= 5


@pytest.mark.parametrize("kind", ["EngineDied", "StoreUnavailable", "ValueError"])
def test_an_error_of_one_worker_costs_a_replacement(kind: str) -> None:
    pool = ScriptedPool(House({0: 9}), (Life(error_kind=kind),))
    supervise(pool)
    assert len(pool.started_at) == 2


def test_an_error_of_an_earlier_start_was_mended_since() -> None:
    house = House({0: 9})
    Orphans(house).start(Life(error_kind="EngineRefused"))
    house.clock.sleep(8)
    supervise(ScriptedPool(house))


def test_a_worker_that_refuses_the_job_stops_the_run_at_once() -> None:
    refused = Life(boot_seconds=9.0, dies_at=1.0, death=WorkerEnd("exit code 2", fatal=True))
    pool = ScriptedPool(House({0: 9}), (refused,))
    with pytest.raises(WorkersFailed, match="exit code 2"):
        supervise(pool)
    assert len(pool.started_at) == 1


# Money: a worker costs a dollar a second.


def spent(pool: ScriptedPool) -> Decimal:
    return sum((w.session.bill.usd or Decimal(0) for w in pool.workers.values()), Decimal(0))


def test_a_budget_that_is_reached_stops_the_run() -> None:
    pool = ScriptedPool(House({0: 100}))
    with pytest.raises(BudgetReached) as stopped:
        supervise(pool, budget_usd="20")
    assert stopped.value.exit_code == 4
    assert 16 <= spent(pool) <= 19, "a quarter of a lease is kept back for it to hear of it"


def test_a_budget_that_is_not_reached_does_no_harm() -> None:
    supervise(ScriptedPool(House({0: 9})), budget_usd="100")


def test_beats_that_are_old_do_not_hide_what_was_spent_since() -> None:
    pool = ScriptedPool(House({0: 100}, lease_seconds=80.0))
    with pytest.raises(BudgetReached):
        supervise(pool, budget_usd="50")
    assert 28 <= spent(pool) <= 31, "a quarter of this lease are 20 s"


def test_a_drain_is_paid_for_from_what_was_kept_back_for_it() -> None:
    pool = ScriptedPool(House({0: 100, 1: 100}))
    with pytest.raises(BudgetReached, match=r"kept back for 2 workers"):
        supervise(pool, workers=2, budget_usd="40", drain_seconds=6)
    assert 20 <= spent(pool) <= 26


def test_a_store_that_is_away_does_not_make_the_budget_larger() -> None:
    house = House({0: 100})
    pool = ScriptedPool(house)
    with pytest.raises(BudgetReached):
        supervise(pool, store=away_store(house, 10, 1_000), budget_usd="30")
    assert 26 <= spent(pool) <= 29


def test_a_pool_that_cannot_be_asked_to_stop_is_asked_again() -> None:
    house = House({0: 100})
    away = between(0, 40, house)
    pool = ScriptedPool(house, away=lambda verb: verb == "stop" and away())
    with pytest.raises(BudgetReached):
        supervise(pool, budget_usd="20", stops=24)
    assert [w.session.state for w in pool.workers.values()] == ["ended"]


def test_a_worker_that_would_not_come_to_work_is_not_started() -> None:
    slow = Life(boot_seconds=2.0, load_seconds=8.0, dies_at=14.0)
    pool = ScriptedPool(House({0: 100}), (slow,), forever=slow)
    with pytest.raises(BudgetReached, match="too little to start") as stopped:
        supervise(pool, budget_usd="24")
    assert "10 s to boot and load" in str(stopped.value)
    assert len(pool.started_at) == 1


def test_a_worker_that_pays_is_started_and_those_that_do_not_are_left_out() -> None:
    slow = Life(boot_seconds=2.0, load_seconds=8.0)
    killed = Life(boot_seconds=2.0, load_seconds=8.0, dies_at=14.0)
    pool = ScriptedPool(House({0: 100, 1: 100}), (slow, killed), forever=slow)
    with pytest.raises(BudgetReached):
        supervise(pool, workers=2, budget_usd="45")
    assert len(pool.started_at) == 2, "two would spend the other 15 in less than a load"


def test_a_run_is_complete_though_its_budget_is_spent() -> None:
    supervise(ScriptedPool(House({0: 9})), budget_usd="15.5")


@pytest.mark.parametrize(
    ("budget_usd", "warn_usd", "limit"),
    [("100", None, "80"), ("100", "7", "7"), (None, "7", "7")],
    ids=["a share", "named", "no budget"],
)
def test_a_warning_is_given_once_and_before_it_is_too_late(
    budget_usd: str | None, warn_usd: str | None, limit: str
) -> None:
    told: list[tuple[str, str, Mapping[str, Any]]] = []
    pool = ScriptedPool(House({0: 90}))
    supervise(
        pool, budget_usd=budget_usd, warn_usd=warn_usd, announce=lambda *said: told.append(said)
    )
    [(name, sentence, figures)] = told
    assert name == "budget-warning"
    assert Decimal(limit) <= Decimal(figures["spent_usd"]) <= Decimal(limit) + 3
    assert Decimal(figures["warn_usd"]) == Decimal(limit)
    assert "are spent" in sentence


def test_nobody_is_warned_where_nobody_asked() -> None:
    told: list[str] = []
    supervise(ScriptedPool(House({0: 9})), announce=lambda name, *_: told.append(name))
    assert told == []


def test_what_an_earlier_start_spent_counts() -> None:
    house = House({0: 100})
    Orphans(house).start(Life(dies_at=30.0))
    house.clock.sleep(31)
    pool = ScriptedPool(house)
    with pytest.raises(BudgetReached):
        supervise(pool, budget_usd="20")
    assert pool.started_at == []


def test_orphans_hear_that_they_are_to_stop() -> None:
    house = House({0: 100})
    orphans = Orphans(house)
    orphans.start(WELL)
    house.clock.sleep(8)
    with pytest.raises(BudgetReached):
        supervise(ScriptedPool(house), budget_usd="20")
    house.clock.sleep(2)
    assert house.ledger.sessions.all()["orphan-0"].state == "ended"
    assert spent(orphans.pool) <= 20


def test_workers_of_a_pool_that_is_away_hear_it_too() -> None:
    house = House({0: 100})
    pool = ScriptedPool(house, away=lambda verb: verb == "stop")
    with pytest.raises(BudgetReached):
        supervise(pool, budget_usd="20", patience_seconds=5, stops=6)
    assert [w.session.state for w in pool.workers.values()] == ["ended"]
    assert spent(pool) <= 20


def test_a_larger_budget_lifts_the_stop() -> None:
    house = House({0: 30})
    with pytest.raises(BudgetReached):
        supervise(ScriptedPool(house), budget_usd="20")
    supervise(ScriptedPool(house), budget_usd="90")


def test_no_budget_lifts_the_stop_too() -> None:
    house = House({0: 30})
    with pytest.raises(BudgetReached):
        supervise(ScriptedPool(house), budget_usd="20")
    supervise(ScriptedPool(house))


def test_those_that_were_there_before_and_never_beat_are_not_counted_as_running() -> None:
    house = House({0: 20})
    Orphans(house).start(*[Life(boot_seconds=1.0, dies_at=3.0, last_rows=0)] * 30)
    house.clock.sleep(4)
    pool = ScriptedPool(house)
    # 30 x (3 s and half a lease) may be spent; another 30 x (a drain and to hear of it) are not.
    supervise(pool, budget_usd="260")
    assert len(pool.started_at) == 1


def test_a_worker_whose_start_was_not_answered_is_asked_for_by_the_same_name() -> None:
    house = House({0: 20})
    away = between(0, 5, house)
    pool = ScriptedPool(house, away=lambda verb: verb == "start" and away(), forgets_answers=True)
    supervise(pool)
    assert len(pool.started_at) == 1


def test_a_budget_cannot_be_held_where_a_price_is_unknown() -> None:
    pool = ScriptedPool(House({0: 9}), forever=Life(price=UNKNOWN_PRICE))
    with pytest.raises(WorkersFailed, match="price is unknown"):
        supervise(pool, budget_usd="100")


@pytest.mark.parametrize(
    "life",
    [Life(price=UNKNOWN_PRICE, error_kind="EngineDied"), Life(price=UNKNOWN_PRICE, dies_at=6.0)],
    ids=["ended", "killed"],
)
def test_unpriced_workers_of_an_earlier_start_do_not_stand_in_the_way(life: Life) -> None:
    house = House({0: 9})
    Orphans(house).start(life)
    house.clock.sleep(30)
    supervise(ScriptedPool(house), budget_usd="100")


def test_a_worker_that_did_not_tell_its_price_yet_may_be_as_dear_as_the_dearest() -> None:
    house = House({0: 100, 1: 100})
    pool = ScriptedPool(house, (WELL, Life(untold_seconds=1_000.0)))
    with pytest.raises(BudgetReached):
        supervise(pool, workers=2, budget_usd="40")
    assert 16 <= house.clock.now() <= 18, "a quarter of a lease is kept back for each of the two"


def test_an_unpriced_orphan_that_still_spends_does() -> None:
    house = House({0: 100})
    Orphans(house).start(Life(price=UNKNOWN_PRICE))
    house.clock.sleep(8)
    with pytest.raises(WorkersFailed, match="price is unknown"):
        supervise(ScriptedPool(house), budget_usd="100")


# A store and a pool that go away.


def test_a_store_that_is_away_for_a_while_is_waited_for() -> None:
    house = House({0: 60})
    pool = ScriptedPool(house)
    supervise(pool, store=away_store(house, 10, 40), patience_seconds=50)
    assert len(pool.started_at) == 1


def test_a_store_that_stays_away_ends_the_supervisor_and_drains_the_workers() -> None:
    house = House({0: 100})
    pool = ScriptedPool(house)
    with pytest.raises(StoreUnavailable):
        supervise(pool, store=away_store(house, 10, 1_000), patience_seconds=50)
    assert 55 <= house.clock.now() < 65
    assert [w.session.state for w in pool.workers.values()] == ["ended"]


def test_absences_are_not_added_up() -> None:
    house = House({0: 200})
    absences = [between(first, first + 40, house) for first in (10, 60, 110)]
    store = FaultyStore(house.memory, lambda _: refused_if(any(away() for away in absences)))
    pool = ScriptedPool(house)
    supervise(pool, store=store, patience_seconds=50)
    assert len(pool.started_at) == 1


@pytest.mark.parametrize("verb", ["start", "ended"])
def test_a_pool_that_is_away_for_a_while_is_waited_for(verb: str) -> None:
    house = House({0: 40, 1: 40})
    away = between(3, 35, house)
    pool = ScriptedPool(house, (KILLED_AT_WORK,), away=lambda asked: asked == verb and away())
    supervise(pool, workers=2, patience_seconds=50)
    first, second, successor = pool.started_at
    assert (first, second) == (0, 0)
    assert 35 <= successor < 40


def test_a_pool_that_stays_away_ends_the_supervisor() -> None:
    house = House({0: 9})
    with pytest.raises(PoolUnavailable, match="start"):
        supervise(ScriptedPool(house, away=lambda verb: verb == "start"), patience_seconds=50)
    assert 50 <= house.clock.now() < 55


def test_a_pool_that_is_away_at_the_end_does_not_spoil_a_complete_run() -> None:
    house = House({0: 9})
    pool = ScriptedPool(house, away=lambda verb: verb != "start" and house.complete)
    supervise(pool)
    assert pool.stops_asked == 1


# Being asked to stop.


def test_a_notice_stops_the_run_and_drains_the_workers() -> None:
    pool = ScriptedPool(House({0: 100}))
    with pytest.raises(Interrupted, match="spot notice") as stopped:
        supervise(pool, notice=NoticeAt(9))
    assert stopped.value.exit_code == 75
    assert [w.session.state for w in pool.workers.values()] == ["ended"]


def test_the_reason_survives_a_pool_that_cannot_be_asked_to_stop() -> None:
    pool = ScriptedPool(House({0: 100}), away=lambda verb: verb == "stop")
    with pytest.raises(Interrupted, match="spot notice"):
        supervise(pool, notice=NoticeAt(9))


# Any night.

any_life = st.sampled_from(
    [
        WELL,
        KILLED_IN_BOOT,
        KILLED_AT_WORK,
        LOST,
        NEVER_COMES,
        Life(holds=2),
        Life(row_seconds=3.0, dies_at=14.0),
        Life(error_kind="EngineDied"),
        Life(boot_seconds=30.0, load_seconds=60.0),
        replace(KILLED_AT_WORK, again=WELL),
        replace(KILLED_IN_LOAD, again=KILLED_AT_WORK),
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    lives=st.lists(any_life, max_size=5).map(tuple),
    orphans=st.lists(any_life, max_size=2),
    workers=st.integers(2, 4),
    shards=st.integers(1, 5),
)
def test_every_night_ends_with_every_shard_published(
    lives: tuple[Life, ...], orphans: list[Life], workers: int, shards: int
) -> None:
    """Five bad workers at most, so that a fleet of two does not give up."""
    house = House(dict.fromkeys(range(shards), 7))
    Orphans(house).start(*orphans)
    house.clock.sleep(6)
    supervise(ScriptedPool(house, lives), workers=workers)


def refused_if(away: bool) -> Fault:
    return REFUSED if away else NO_FAULT


def away_store(house: House, first: float, last: float) -> ObjectStore:
    """The store as the supervisor sees it; its workers have a way of their own."""
    away = between(first, last, house)

    def fault(_: Call) -> Fault:
        return refused_if(away())

    return FaultyStore(house.memory, fault)
