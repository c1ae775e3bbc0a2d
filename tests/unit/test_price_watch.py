"""Prices are asked beside whoever pays: nobody waits, but a while for the first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from pipeline.core.money import UNKNOWN_PRICE, NodePrice
from pipeline.core.ports import PriceQuotes
from pipeline.prices import watch as watching
from pipeline.prices.watch import PriceWatch
from tests.doubles.server import until_told

MARKET, LATER = NodePrice(Decimal(1), "a market"), NodePrice(Decimal(2), "a market, later")
LISTED = NodePrice(Decimal(3), "a list")


@dataclass(slots=True)
class Quotes:
    """Says `told`; None is a market that does not answer, for which `listed` stands in."""

    told: NodePrice | None
    listed: NodePrice = UNKNOWN_PRICE
    answers_after: threading.Event | None = None
    asked: list[float] = field(default_factory=list)
    breaks: bool = False

    def price(self) -> NodePrice:
        self.asked.append(time.monotonic())
        if self.answers_after is not None:
            self.answers_after.wait(30)
        if self.breaks:
            raise OSError("of all things")
        return self.listed if self.told is None else self.told

    @property
    def is_silent(self) -> bool:
        return self.told is None


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PriceWatch]]:
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0.02)
    with ExitStack() as stack:

        def start(quotes: Quotes, every: float = 60.0, patience: float = 30.0) -> PriceWatch:
            monkeypatch.setattr(watching, "ASK_SECONDS", every)
            monkeypatch.setattr(watching, "PATIENCE_SECONDS", patience)
            watch = PriceWatch(quotes)
            stack.callback(watch.close)
            return watch.start()

        yield start


def test_a_price_is_there_when_it_was_told_and_moves_when_it_is_asked_again(
    watched: Callable[..., PriceWatch],
) -> None:
    quotes = Quotes(MARKET)
    watch = watched(quotes, every=0.05)
    port: PriceQuotes = watch
    assert watch.first() == MARKET
    quotes.told = LATER
    until_told(lambda: port.price() == LATER, 5, "another price")


def test_a_market_that_does_not_answer_is_asked_again_within_seconds_and_then_seldom(
    watched: Callable[..., PriceWatch],
) -> None:
    quotes = Quotes(None, LISTED)
    watch = watched(quotes, every=600.0)
    until_told(lambda: len(quotes.asked) >= 4, 10, "asked again and again")
    quotes.told = MARKET
    assert watch.first() == MARKET, "it spoke while somebody waited for a first price"
    known = len(quotes.asked)
    time.sleep(0.2)
    assert len(quotes.asked) == known, "a price that is known is not asked for again so soon"


@pytest.mark.parametrize("listed", [LISTED, UNKNOWN_PRICE])
def test_a_market_that_stays_silent_is_not_waited_for_for_ever(
    listed: NodePrice, watched: Callable[..., PriceWatch]
) -> None:
    quotes = Quotes(None, listed)
    watch = watched(quotes, patience=0.3)
    began = time.monotonic()
    assert watch.first() == listed, "unknown where no list knows, and never nothing"
    assert 0.2 < time.monotonic() - began < 5.0
    assert len(quotes.asked) > 2
    quotes.told = MARKET
    until_told(lambda: watch.price() == MARKET, 10, "the market's when it speaks")


def test_nobody_waits_for_an_answer_that_hangs(watched: Callable[..., PriceWatch]) -> None:
    hangs = threading.Event()
    watch = watched(Quotes(MARKET, answers_after=hangs), patience=0.1)
    began = time.monotonic()
    assert watch.price() == UNKNOWN_PRICE
    assert watch.first() == UNKNOWN_PRICE
    watch.close()
    assert time.monotonic() - began < 2.0
    hangs.set()


def test_nobody_is_asked_any_more_once_it_is_closed(watched: Callable[..., PriceWatch]) -> None:
    quotes = Quotes(MARKET)
    watch = watched(quotes, every=0.02)
    until_told(lambda: len(quotes.asked) >= 2, 5, "asked")
    watch.close()
    time.sleep(0.1)
    asked = len(quotes.asked)
    time.sleep(0.1)
    assert len(quotes.asked) == asked
    assert watch.price() == MARKET


def test_whatever_goes_wrong_it_is_asked_again(watched: Callable[..., PriceWatch]) -> None:
    quotes = Quotes(MARKET, breaks=True)
    watch = watched(quotes)
    until_told(lambda: len(quotes.asked) >= 2, 5, "asked again")
    quotes.breaks = False
    assert watch.first() == MARKET
