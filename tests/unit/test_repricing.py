"""Seconds count at the price they had: what was seen of a market, and when it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import UNKNOWN_PRICE, Buckets, NodePrice
from pipeline.core.spans import Account, together
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.price_moves import PriceMoves, account_at
from pipeline.repricing import Repricing
from pipeline.timesheet import Timesheet
from tests.simulation.fakes import InlineExecutor, VirtualClock
from tests.unit.strategies import bounded
from tests.unit.test_timesheet import held

ONE, TWO = (NodePrice(Decimal(usd), "a market") for usd in (1, 2))
PRICES = (UNKNOWN_PRICE, ONE, TWO)


@dataclass(slots=True)
class Quoted:
    """Implements `PriceQuotes`."""

    now: NodePrice = UNKNOWN_PRICE

    def price(self) -> NodePrice:
        return self.now


@dataclass(slots=True)
class Desk:
    """A worker's sheet and its feed, and a market."""

    clock: VirtualClock
    quoted: Quoted
    sheet: Timesheet
    feed: Feed
    moves: PriceMoves
    repricing: Repricing


def desk(price: NodePrice) -> Desk:
    clock, quoted = VirtualClock(), Quoted(price)
    sheet = Timesheet(clock.now(), 0, price)
    engine = ScriptedEngine(ScriptedSettings(), clock.sleep)
    feed = Feed(engine, Errands(InlineExecutor()), clock, sheet)
    moves = PriceMoves(quoted, clock)
    return Desk(clock, quoted, sheet, feed, moves, Repricing(moves, clock, sheet))


moments = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(PRICES)), max_size=8)


@bounded
@given(st.sampled_from(PRICES), moments, st.booleans())
def test_a_load_has_each_price_for_as_long_as_it_was_seen(
    first: NodePrice, seen: list[tuple[int, NodePrice]], charged: bool
) -> None:
    """By whoever tells of it: the worker when it is over, or a beat in its stead."""
    here = desk(first)
    due: dict[NodePrice, int] = {}
    price = first
    for quarters, now in seen:
        here.clock.sleep(quarters / 4)
        due[price] = due.get(price, 0) + quarters * 250_000
        here.quoted.now = now
        here.moves.look()
        if now.usd_per_hour is not None:
            if price.usd_per_hour is None and not charged:
                due[now] = due.pop(price)
            price = now
    until, account = here.sheet.so_far
    moves = here.moves.since(until, account.price, charged)
    told = account_at(account, until, "load", here.clock.now(), moves)
    here.repricing.loaded(here.feed if charged else None)
    assert told == here.sheet.so_far[1]
    lived = {price: spent.total for price, spent in together(told.spans).items() if spent.total}
    assert lived == {price: micros for price, micros in due.items() if micros}
    assert told.buckets == Buckets(load=round(here.clock.now() * 1e6))


def test_a_price_that_came_back_before_it_could_count_is_no_move() -> None:
    here = desk(ONE)
    here.sheet.pass_to(1.0, "useful")
    here.quoted.now = TWO
    here.repricing.look_after(here.feed)
    assert here.feed.price == ONE, "there is a second that nobody can be charged with yet"
    here.quoted.now = ONE
    shard = held(0)
    here.feed.held[shard.name] = shard
    here.repricing.look_after(here.feed)
    assert here.sheet.so_far[1] == Account(ONE, Buckets(useful=1_000_000))


def test_a_price_that_stays_counts_as_soon_as_it_can() -> None:
    here = desk(ONE)
    here.sheet.pass_to(1.0, "useful")
    here.quoted.now = TWO
    here.repricing.look_after(here.feed)
    shard = held(0)
    here.feed.held[shard.name] = shard
    here.repricing.look_after(here.feed)
    assert here.feed.price == TWO
    assert shard.buckets.useful == 1_000_000
