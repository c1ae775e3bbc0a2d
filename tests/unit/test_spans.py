"""Several looks at one account, of which nobody knows which was the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import Buckets, NodePrice
from pipeline.core.spans import Span, proved_by, together
from tests.unit.strategies import bounded, buckets, known_prices, micros


@bounded
@given(st.data())
def test_looks_at_an_account_prove_what_the_last_of_them_says(data: st.DataObject) -> None:
    prices = data.draw(st.lists(known_prices(), min_size=1, max_size=3, unique=True))
    account: dict[NodePrice, Buckets] = {}
    looks: list[list[Span]] = []
    for price in data.draw(st.lists(st.sampled_from(prices), max_size=5)):
        account[price] = account.get(price, Buckets()) + data.draw(buckets())
        looks.append([Span(*span) for span in account.items()])
    some = data.draw(st.permutations(looks))
    assert together(proved_by(some)) == account


@bounded
@given(buckets(), micros, known_prices())
def test_useful_seconds_that_turned_out_wasted_are_not_there_twice(
    spent: Buckets, more: int, price: NodePrice
) -> None:
    before = Span(price, spent.plus("useful", more))
    after = Span(price, spent.plus("wasted", more))
    for looks in ([before], [after]), ([after], [before]):
        [proved] = proved_by(looks)
        assert proved.buckets.total == spent.total + more
