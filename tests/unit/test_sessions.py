"""A session's beat is all that is known of a worker that dies, so nothing may be lost in it."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import UNTOLD_PRICE, Buckets, Node, NodePrice
from pipeline.core.session import EngineStart, Session, ShardAccount, State
from tests.unit.strategies import (
    any_prices,
    bounded,
    buckets,
    counts,
    earlier_spans,
    micros,
    texts,
)

states = st.sampled_from(get_args(State))
sessions = st.builds(
    Session,
    worker_id=texts,
    beat=counts,
    state=states,
    started_at=texts,
    beat_at=texts,
    node=st.builds(Node, texts, texts, texts, texts),
    price=any_prices(),
    buckets=buckets(),
    shards=st.dictionaries(
        counts,
        st.builds(
            ShardAccount,
            counts,
            counts,
            micros,
            counts,
            st.lists(st.tuples(any_prices(), micros), max_size=2).map(tuple),
        ),
        max_size=3,
    ),
    earlier=earlier_spans(),
    lease_seconds=st.floats(0, 1e6),
    node_share=st.fractions(0, 1).filter(bool),
    rows=counts,
    decoded=counts,
    error=st.none() | texts,
    error_kind=st.none() | texts,
    start=st.none()
    | st.builds(
        EngineStart,
        st.floats(0, 1e6),
        st.floats(0, 1e6),
        counts,
        st.sampled_from(["local", "node", "bucket", "streamed"]),
        st.sampled_from(["off", "node", "bucket", "new"]),
    ),
)


@bounded
@given(sessions)
def test_a_session_survives_json(session: Session) -> None:
    assert Session.from_json(json.loads(json.dumps(session.to_json()))) == session
    older = session.to_json()
    del older["start"], older["lease_seconds"], older["node_share"]
    assert Session.from_json(older) == replace(
        session, start=None, lease_seconds=0.0, node_share=Fraction(1)
    )


def test_the_source_and_time_of_both_prices_are_kept_and_older_sessions_lack_one() -> None:
    price = NodePrice(Decimal(1), "EC2, as of now", Decimal(3), "a list, as of 2026")
    session = Session("w1", 1, "work", "", "", Node(), price)
    document = session.to_json()
    assert document["price_source"] == "EC2, as of now"
    assert document["on_demand_price_source"] == "a list, as of 2026"
    del document["on_demand_price_source"]
    older = Session.from_json(document)
    assert older.price == replace(price, on_demand_source="unknown")
    # Whoever adds older books up again gets them as they were.
    assert older.to_json() == document


@bounded
@given(sessions)
def test_its_bill_is_price_times_life(session: Session) -> None:
    bill = session.bill
    assert bill.buckets == session.buckets
    prices = [price.usd_per_hour for price, _ in session.spans]
    assert (bill.usd is None) == (None in prices)
    assert (bill.uncertain_micros > 0) <= (not session.over)


@bounded
@given(sessions)
def test_seconds_that_nobody_can_price_yet_are_uncertain(session: Session) -> None:
    untold = replace(session, price=UNTOLD_PRICE, earlier=())
    bill = untold.bill
    assert bill.usd == 0
    assert bill.buckets == Buckets()
    lease = 0 if session.over else replace(session, state="work").bill.uncertain_micros
    assert bill.uncertain_micros == session.buckets.total + lease


@pytest.mark.parametrize(
    ("state", "over"),
    [("boot", False), ("load", False), ("work", False), ("ended", True), ("failed", True)],
)
@given(sessions)
def test_only_an_ended_session_is_over(state: State, over: bool, session: Session) -> None:
    assert replace(session, state=state).over == over


@given(sessions)
def test_a_session_that_works_or_did_anything_did_not_only_load(session: Session) -> None:
    empty = replace(session, buckets=Buckets(boot=1, load=2), rows=0, decoded=0, shards={})
    alone: dict[State, bool] = {"load": True, "failed": True, "ended": True, "work": False}
    for state, only in alone.items():
        assert replace(empty, state=state).only_loaded is only
    assert not replace(empty, state="load", rows=1).only_loaded
    assert not replace(empty, state="failed", shards={3: ShardAccount(1)}).only_loaded
    assert not replace(empty, state="load", buckets=Buckets(useful=1)).only_loaded
