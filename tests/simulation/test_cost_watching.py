"""A supervisor that watches what tokens cost, in nights where each cause was planted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from functools import cache

import pytest

from pipeline.core.cost_watch import Usage
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice
from pipeline.core.session import Session
from pipeline.cost_watching import CostWatch, Window
from tests.simulation.dear_nights import Plant, live

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


@pytest.mark.parametrize("cause", PLANTED)
@pytest.mark.parametrize("seed", [4, 5, 6])
def test_a_planted_cause_is_named(cause: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "spotmill.run"):
        _, told = live(PLANTED[cause], normal_runs(), seed)
    assert told, "nobody was told"
    name, sentence, figures = told[0]
    assert (name, figures["cause"]) == ("cost-jump", cause)
    assert f"likely cause: {cause} (x " in sentence
    assert figures["ratio"] > 1.3
    assert sentence in caplog.text


@pytest.mark.parametrize("seed", range(4, 12))
def test_a_normal_night_is_no_jump(seed: int) -> None:
    assert live(NORMAL, normal_runs(), seed)[1] == []


def test_a_run_is_compared_with_its_own_past_where_there_is_no_other() -> None:
    _, told = live(Plant(slow=2.5, slow_from=140.0))
    assert [figures["cause"] for _, _, figures in told[:1]] == ["lower throughput"]
    assert "of this run before" in told[0][1]


def test_a_night_that_is_dear_from_the_start_is_its_own_measure_without_a_past() -> None:
    assert live(Plant(usd_per_hour="8.00"))[1] == []


# One worker's session, window by window.


def watched(costs: Sequence[float], past: Sequence[float] = (), in_a_row: int = 2) -> list[str]:
    """The windows, by number, after which somebody was told; a thousand tokens each."""
    told: list[str] = []
    window = 0
    earlier = [Usage(Decimal(repr(c)), Buckets(useful=10**6), 1, 1_000) for c in past]
    watch = CostWatch(
        lambda: earlier, lambda *_: told.append(str(window)), Window(10.0, 500, in_a_row)
    )
    useful, decoded = 0, 0
    watch.look([session(useful, decoded)], 0.0)
    for window, cost in enumerate(costs):
        useful, decoded = useful + round(cost * 1e6), decoded + 1_000
        watch.look([session(useful, decoded)], 10.0 * (window + 1))
    return told


def session(useful: int, decoded: int, price: str | None = "3600") -> Session:
    node_price = UNKNOWN_PRICE if price is None else NodePrice(Decimal(price), "made up")
    return Session(
        "w", 1, "work", "", "", Node(), node_price, Buckets(useful=useful), decoded=decoded
    )


def test_one_window_is_noise_two_are_told_once_and_a_return_ends_it() -> None:
    assert watched([1, 2, 1, 1, 2, 2, 2, 2, 1, 2, 2], past=[1.0, 1.01, 0.99]) == ["5", "10"]


def test_three_windows_are_a_past_of_its_own() -> None:
    assert watched([1, 1, 2, 2]) == []
    assert watched([1, 1, 1, 2, 2, 2]) == ["4"]


def test_what_varies_by_itself_is_no_jump() -> None:
    assert watched([1.5, 1.4], past=[1.0, 1.5, 0.6, 1.4, 0.7]) == []


def test_a_window_ends_though_hardly_a_token_came() -> None:
    told: list[str] = []
    watch = CostWatch(
        lambda: [Usage(Decimal(1), Buckets(useful=10**6), 1, 1_000)],
        lambda name, *_: told.append(name),
        Window(10.0, 500, 1),
    )
    watch.look([session(0, 0)], 0.0)
    watch.look([session(10**6, 1)], 30.0)
    assert told == []
    watch.look([session(10**6, 1)], 40.0)
    assert told == ["cost-jump"]


def test_unknown_prices_are_not_watched() -> None:
    watch = CostWatch(announce=lambda *_: pytest.fail("told"), window=Window(10.0, 500, 1))
    for number in range(9):
        watch.look([session(10**6 * number**3, 1_000 * number, price=None)], 10.0 * number)


def test_a_past_that_cannot_be_read_stops_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def broken_past() -> list[Usage]:
        raise KeyError("tokens")

    watch = CostWatch(broken_past, window=Window(10.0, 500, 1))
    watch.look([session(0, 0)], 0.0)
    watch.look([session(10**6, 1_000)], 10.0)
    assert "earlier runs are not compared with" in caplog.text
