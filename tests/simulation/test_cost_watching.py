"""A supervisor that watches what tokens cost, in nights where each cause was planted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice
from pipeline.core.session import Session
from pipeline.core.usage import Usage
from pipeline.cost_past import CostPast
from pipeline.cost_watching import CostWatch, Window
from tests.simulation.dear_nights import WINDOW, Announced, Plant, live
from tests.simulation.quiet_nights import EARLIER_RUNS, Fleet, told_in_nights
from tests.simulation.quiet_page import LOADS, PREEMPTED, TROUBLES, WORKERS

NORMAL = Plant()


@cache
def normal_runs() -> tuple[Usage, ...]:
    return tuple(live(NORMAL, seed=seed)[0] for seed in (1, 2, 3))


PLANTED = {
    "dearer price": Plant(usd_per_hour="3.20"),
    "dearer zone": Plant(usd_per_hour="3.20", zone="us-east-1c"),
    "more preemptions": Plant(kill_every=18.0),
    "acceptance fell": Plant(tokens_per_step=1.2),
    "longer prompts": Plant(prompt="a prompt that is longer than usual: "),
    "lower throughput": Plant(slow=1.9),
}
SPOT = Plant(kill_every=100.0)
"""A normal night on spot machines: one of two is killed in so many seconds, loads take six."""


@pytest.mark.parametrize("cause", PLANTED)
@pytest.mark.parametrize("seed", [4, 5, 6])
def test_a_planted_cause_is_named(cause: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "spotmill.run"):
        _, told = live(PLANTED[cause], normal_runs(), seed)
    assert told, "nobody was told"
    name, sentence, figures, after = told[0]
    assert (name, figures["cause"]) == ("cost-jump", cause)
    assert f"likely cause: {cause} (x " in sentence
    assert figures["ratio"] > 1.3
    assert sentence in caplog.text
    in_windows = 8 if cause == "more preemptions" else 3
    assert after < in_windows * WINDOW.seconds + 15.0


@pytest.mark.parametrize("seed", range(4, 12))
def test_a_normal_night_is_no_jump(seed: int) -> None:
    assert live(NORMAL, normal_runs(), seed)[1] == []


@cache
def spot_runs() -> tuple[Usage, ...]:
    return tuple(live(SPOT, seed=seed)[0] for seed in (1, 2, 3))


@pytest.mark.parametrize("seed", [4, 5])
def test_a_normal_night_on_spot_is_no_jump(seed: int) -> None:
    assert live(SPOT, spot_runs(), seed)[1] == []


def test_a_run_is_compared_with_its_own_past_where_there_is_no_other() -> None:
    _, told = live(Plant(slow=2.5, slow_from=140.0))
    assert [said.figures["cause"] for said in told[:1]] == ["lower throughput"]
    assert "of this run before" in told[0].sentence


def test_a_night_that_is_dear_from_the_start_is_its_own_measure_without_a_past() -> None:
    assert live(Plant(usd_per_hour="8.00"))[1] == []


# Eight hours of a fleet on spot machines (tests/simulation/quiet_nights.py).

SMALL = [Fleet(1, 0.25, 300), Fleet(1, 0.5, 420), Fleet(2, 0.25, 300), Fleet(4, 0.5, 420)]


@pytest.mark.parametrize("fleet", SMALL, ids=str)
@pytest.mark.parametrize("runs", [0, EARLIER_RUNS])
def test_a_preemption_or_two_are_no_jump(fleet: Fleet, runs: int) -> None:
    assert not any(told_in_nights(fleet, 3, runs=runs))


@pytest.mark.nightly
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("preempted", PREEMPTED)
@pytest.mark.parametrize("workers", WORKERS)
def test_at_most_one_of_thirty_quiet_nights_is_told_of(
    workers: int, preempted: float, load: float
) -> None:
    assert sum(map(bool, told_in_nights(Fleet(workers, preempted, load), 30))) <= 1


@pytest.mark.parametrize("cause", TROUBLES)
def test_trouble_is_told_of_in_time_however_small_the_fleet(cause: str) -> None:
    told = told_in_nights(Fleet(2, 0.5, 300), 2, TROUBLES[cause])
    assert [one.cause for one in told if one] == [cause] * 2
    in_ones = cause in ("more preemptions", "slower starts")
    assert all(one.minutes <= (300 if in_ones else 40) for one in told if one)


# One worker's session, window by window.


def watched(costs: Sequence[float], past: Sequence[float] = (), in_a_row: int = 2) -> list[str]:
    """The windows, by number, after which somebody was told; a thousand tokens each."""
    told: list[str] = []
    window = 0
    earlier = [Usage(Decimal(repr(c)), Buckets(useful=10**7), 1, 1_000) for c in past]
    watch = CostWatch(
        CostPast(earlier), lambda *_: told.append(str(window)), Window(10.0, 500, in_a_row)
    )
    useful, decoded = 0, 0
    watch.look([], 0.0)
    watch.look([session(useful, decoded)], 0.0)
    for window, cost in enumerate(costs):
        useful, decoded = useful + round(cost * 1e7), decoded + 1_000
        watch.look([session(useful, decoded)], 10.0 * (window + 1))
    return told


def session(useful: int, decoded: int, price: str | None = "360", **known: Any) -> Session:
    node_price = UNKNOWN_PRICE if price is None else NodePrice(Decimal(price), "made up")
    said = {"worker_id": "w", "beat": 1, "state": "work", "buckets": Buckets(useful=useful)}
    more = {"started_at": "", "beat_at": "", "node": Node(), "lease_seconds": 30.0}
    return Session(price=node_price, decoded=decoded, **{**said, **more, **known})


def test_one_window_is_noise_two_are_told_once_and_a_return_ends_it() -> None:
    assert watched([1, 2, 1, 1, 2, 2, 2, 2, 1, 2, 2], past=[1.0, 1.01, 0.99]) == ["5", "10"]


def test_three_windows_are_a_past_of_its_own() -> None:
    assert watched([1, 1, 2, 2]) == []
    assert watched([1, 1, 1, 2, 2, 2]) == ["4"]


def test_what_varies_by_itself_is_no_jump() -> None:
    assert watched([1.5, 1.4], past=[1.0, 1.5, 0.6, 1.4, 0.7]) == []


def usual() -> CostPast:
    """Ten cents a second, a hundred tokens in a useful one, and a load of ten in each hundred."""
    return CostPast([Usage(Decimal(1_100), Buckets(load=10**9, useful=10**10), 100, 1_000_000)])


def test_a_window_ends_though_hardly_a_token_came() -> None:
    told: list[str] = []
    watch = CostWatch(usual(), lambda name, *_: told.append(name), Window(10.0, 500, 1))
    watch.look([], 0.0)
    watch.look([session(0, 0)], 0.0)
    watch.look([session(3 * 10**7, 1)], 30.0)
    assert told == []
    watch.look([session(4 * 10**7, 1)], 40.0)
    assert told == ["cost-jump"]


def test_a_few_seconds_at_the_end_of_a_load_are_no_window() -> None:
    watch = CostWatch(usual(), lambda *_: pytest.fail("told"), Window(10.0, 500, 1))
    watch.look([], 0.0)
    watch.look([session(0, 0)], 0.0)
    # The first rows fill the engine: their prompts take time, and tokens come later.
    watch.look([session(3 * 10**6, 5)], 40.0)
    watch.look([session(13 * 10**6, 1_300)], 50.0)


# Workers come and go.


def lives(
    *loads: float,
    until: float,
    fleet: int,
    others: Callable[[float], Sequence[Session]] = lambda _: (),
) -> list[Announced]:
    """What is told of workers that begin together, load for so long, and then work as usual, and of
    `others` that are there besides at some time."""
    at, told = 0.0, list[Announced]()

    def hear(name: str, sentence: str, figures: Mapping[str, Any]) -> None:
        told.append(Announced(name, sentence, figures, at))

    watch = CostWatch(usual(), hear, Window(10.0, 500), fleet)
    watch.look(others(at), at)
    while at < until:
        at += 2.0
        watch.look([*others(at), *(_worker(n, load, at) for n, load in enumerate(loads))], at)
    return told


def _worker(number: int, load: float, at: float) -> Session:
    useful = max(0.0, at - load)
    return session(
        *(round(useful * 1e6), round(useful * 100)),
        worker_id=f"w{number}",
        beat=int(at),
        state="work" if useful else "load",
        buckets=Buckets(load=round(min(at, load) * 1e6), useful=round(useful * 1e6)),
    )


LATE = (10.0, *[90.0] * 7)


def test_first_loads_are_no_jump_though_some_take_longer() -> None:
    assert lives(*LATE, until=400.0, fleet=8) == []


def test_the_same_loads_are_one_where_the_fleet_was_complete() -> None:
    told = lives(*LATE, until=400.0, fleet=1)
    assert [said.figures["cause"] for said in told] == ["slower starts"]
    assert "10 s to boot and load for each worker before, 90 now" in told[0].sentence


def test_who_was_killed_before_a_resume_neither_works_nor_was_started_now() -> None:
    killed = [session(10**9, 100_000, worker_id=f"killed {n}") for n in range(8)]
    assert lives(*LATE, until=400.0, fleet=8, others=lambda _: killed) == []


def test_a_worker_whose_supervisor_was_away_is_one_of_the_fleet() -> None:
    going = [session(10**8, 10_000, worker_id="w0", beat=0)]
    told: list[str] = []
    watch = CostWatch(usual(), lambda name, *_: told.append(name), Window(10.0, 500), 1)
    watch.look(going, 0.0)
    for at in range(2, 400, 2):
        useful = 100 + at
        now = session(useful * 10**6, useful * 100, worker_id="w0", beat=at)
        watch.look([now], float(at))
    assert told == []


def test_a_load_that_never_ends_costs_from_when_it_fell_silent() -> None:
    stuck = session(0, 0, state="load", buckets=Buckets(load=60 * 10**6), lease_seconds=8.0)
    silent = [replace(stuck, worker_id=f"stuck {n}") for n in range(12)]
    told = lives(4.0, until=120.0, fleet=1, others=lambda at: silent if at > 60.0 else ())
    assert [said.figures["cause"] for said in told] == ["slower starts"]
    assert told[0].after > 68.0


def test_starts_that_go_on_are_told_of_once_and_again_after_a_calm_hour() -> None:
    going_on = [40.0 + 5.0 * n for n in range(12)]
    assert len(lives(4.0, *going_on, until=400.0, fleet=1)) == 1
    later = [700.0] * 12
    assert len(lives(4.0, *going_on, *later, until=800.0, fleet=1)) == 2


def test_a_worker_of_an_unknown_price_is_not_watched_and_the_others_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    watch = CostWatch(usual(), lambda name, *_: told.append(name), Window(10.0, 500), 3)
    watch.look([], 0.0)
    with caplog.at_level(logging.WARNING, "spotmill.run"):
        for n in range(12):
            slow, unknown = session(10**7 * n, 400 * n), session(10**7 * n, 9_000 * n, price=None)
            strangers = [replace(unknown, worker_id=f"stranger {k}") for k in range(2)]
            watch.look([slow, *strangers], 10.0 * n)
    assert told == ["cost-jump"]
    assert caplog.text.count("whose price is unknown") == 1
    assert "stranger 0 is one" in caplog.text


def test_what_was_known_before_a_price_was_lost_stays_known() -> None:
    watch = CostWatch(usual(), lambda *_: pytest.fail("told"), Window(10.0, 500))
    watch.look([], 0.0)
    for n in range(12):
        price = "360" if n < 6 else None
        steady = replace(session(10**7 * n, 1_000 * n), worker_id="steady")
        watch.look([steady, session(10**7 * n, 1_000 * n, price)], 10.0 * n)
