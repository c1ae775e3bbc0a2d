"""A session's beat is all that is known of a worker that dies, so nothing may be lost in it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import Node
from pipeline.core.session import Session, ShardAccount, State
from tests.unit.strategies import any_prices, bounded, buckets, counts, micros, texts

states = st.sampled_from(["load", "work", "drain", "ended", "failed"])
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
    shards=st.dictionaries(counts, st.builds(ShardAccount, counts, counts, micros), max_size=3),
    rows=counts,
    decoded=counts,
    error=st.none() | texts,
    error_kind=st.none() | texts,
)


@bounded
@given(sessions)
def test_a_session_survives_json(session: Session) -> None:
    assert Session.from_json(json.loads(json.dumps(session.to_json()))) == session


@bounded
@given(sessions)
def test_its_bill_is_price_times_life(session: Session) -> None:
    bill = session.bill
    assert bill.buckets == session.buckets
    assert (bill.usd is None) == (session.price.usd_per_hour is None)


@pytest.mark.parametrize(
    ("state", "over"),
    [("load", False), ("work", False), ("drain", False), ("ended", True), ("failed", True)],
)
@given(sessions)
def test_only_an_ended_session_is_over(state: State, over: bool, session: Session) -> None:
    assert replace(session, state=state).over == over
