"""What is told: counters that only grow, money that is known, and nothing that nobody explains."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.bills import SessionBill
from pipeline.core.cost_lines import RunBooks
from pipeline.core.money import UNTOLD_PRICE, Buckets, Node, NodePrice
from pipeline.core.preemption import preempted
from pipeline.core.rows import FinishedRow, TokenCounts
from pipeline.core.session import Session, ShardAccount
from pipeline.metrics.figures import Figure
from pipeline.metrics.meanings import MEANINGS
from pipeline.metrics.of_run import PublishedShards, run_figures
from pipeline.metrics.of_session import session_figures
from tests.unit.books import Books, attempt_of, balanced_books, manifest_of, shard_of
from tests.unit.cost_books import run_books
from tests.unit.strategies import any_prices, bounded, buckets, counts, known_prices

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
DEAR = NodePrice(Decimal("3.6"), "a book")
UNPRICED = NodePrice(None, "unknown")


def session(
    worker_id: str = "w1",
    spent: Buckets | None = None,
    price: NodePrice = DEAR,
    state: str = "work",
    decoded: int = 0,
) -> Session:
    return Session(
        worker_id=worker_id,
        beat=1,
        state=state,  # type: ignore[arg-type]
        started_at="2026-11-20T01:00:00Z",
        beat_at="2026-11-20T02:00:00Z",
        node=Node(worker_id),
        price=price,
        buckets=spent or Buckets(),
        decoded=decoded,
    )


BOOTED = Buckets(boot=1)
"""As every session has by its first beat: no time at all costs nothing, whatever its price is."""


def session_of(bill: SessionBill) -> Session:
    whole = session(bill.worker_id, bill.buckets + BOOTED, bill.price, bill.state)
    return replace(whole, earlier=bill.spans[:-1])


def values(figures: Iterable[Figure], name: str) -> list[object]:
    return [figure.value for figure in figures if figure.name == name]


def counters(figures: Iterable[Figure]) -> dict[tuple[str, str], Decimal]:
    return {
        (figure.name, str(sorted(figure.labels.items()))): Decimal(str(figure.value))
        for figure in figures
        if figure.meaning.kind == "counter"
    }


def assert_grown(before: Iterable[Figure], after: Iterable[Figure]) -> None:
    earlier, later = counters(before), counters(after)
    assert earlier, "there is a counter"
    for key, value in earlier.items():
        assert later[key] >= value, key


@dataclass(frozen=True, slots=True)
class Step:
    """What happens from one beat to the next; of useful time, some turns out to have been wasted,
    and an hour may cost something else from now on."""

    spent: Buckets
    decoded: int
    rows: int
    written_off: int
    price: NodePrice | None

    def after(self, of: Session) -> Session:
        useful = min(self.written_off, of.spans[-1].buckets.useful)
        buckets = of.buckets + self.spent + Buckets(useful=-useful, wasted=useful)
        of = replace(
            of,
            beat=of.beat + 1,
            buckets=buckets,
            decoded=of.decoded + self.decoded,
            rows=of.rows + self.rows,
        )
        return of if self.price is None else replace(of, price=self.price, earlier=of.spans)


steps = st.builds(
    Step,
    buckets(st.integers(0, 10**9)),
    counts,
    counts,
    st.integers(0, 10**9),
    st.none() | known_prices(),
)


@bounded
@given(st.lists(steps, min_size=1, max_size=6), any_prices())
def test_a_sessions_counters_only_grow(life: list[Step], price: NodePrice) -> None:
    beaten = session(spent=BOOTED, price=price)
    for step in life:
        before, beaten = beaten, step.after(beaten)
        assert_grown(session_figures(before), session_figures(beaten))


@bounded
@given(balanced_books(any_prices()), st.data())
def test_a_runs_counters_only_grow(books: Books, data: st.DataObject) -> None:
    planned = {shard.id: shard.rows for shard in books.planned}
    sessions = {bill.worker_id: session_of(bill) for bill in books.bills}
    published = PublishedShards()
    told = [run_figures(planned, published, sessions)]
    for manifest in data.draw(st.permutations(books.manifests)):
        published.take(manifest)
        changed = data.draw(st.sampled_from(sorted(sessions)))
        sessions[changed] = data.draw(steps).after(sessions[changed])
        told.append(run_figures(planned, published, sessions))
        # Whoever looks at a shard again learns nothing.
        published.take(manifest)
        assert run_figures(planned, published, sessions) == told[-1]
    for before, after in itertools.pairwise(told):
        assert_grown(before, after)
    assert values(told[-1], "spotmill.queue.rows") == [0]


@bounded
@given(balanced_books(any_prices()))
def test_an_unknown_price_is_no_cost_and_never_0(books: Books) -> None:
    published = PublishedShards()
    for manifest in books.manifests:
        published.take(manifest)
    sessions = {bill.worker_id: session_of(bill) for bill in books.bills}
    told = run_figures({}, published, sessions)
    unknown = any(one.usd is None for one in sessions.values())
    output = sum(manifest["tokens"]["output"] for manifest in books.manifests)
    assert len(values(told, "spotmill.cost")) == (not unknown)
    assert len(values(told, "spotmill.cost.per_1k_output_tokens")) == (not unknown and output > 0)
    for one in sessions.values():
        cost = values(session_figures(one), "spotmill.worker.cost")
        assert cost == ([] if one.usd is None else [one.bill.usd])


@bounded
@given(balanced_books())
def test_the_last_cost_is_the_manifests_to_the_last_digit(books: Books) -> None:
    closed = books.close()
    published = PublishedShards()
    for manifest in books.manifests:
        published.take(manifest)
    told = run_figures({}, published, {}, closed)
    assert values(told, "spotmill.cost") == [Decimal(closed["cost"]["total"])]
    per_1k = closed["cost"]["per_1k_output_tokens"]
    assert values(told, "spotmill.cost.per_1k_output_tokens") == (
        [] if per_1k is None else [Decimal(per_1k)]
    )
    assert values(told, "spotmill.complete") == [1]


def _published(*manifests: Mapping[str, Any]) -> PublishedShards:
    published = PublishedShards()
    for manifest in manifests:
        published.take(manifest)
    return published


def test_a_worker_that_never_told_its_price_takes_no_figure_away() -> None:
    alive = session("w1", Buckets(useful=10_000_000), decoded=100)
    dead = session("w0", Buckets(boot=9_000_000), UNTOLD_PRICE, state="failed")
    told = run_figures({}, _published(), {"w0": dead, "w1": alive})
    assert values(told, "spotmill.cost") == [Decimal("0.01")]
    assert values(told, "spotmill.cost.per_1k_output_tokens") == [Decimal("0.1")]
    assert values(run_figures({}, _published(), {"w0": dead}), "spotmill.cost") == []


def test_tokens_in_hand_are_good_until_they_are_known_to_be_wasted() -> None:
    rows = [FinishedRow(0, "a", "stop", None, 10, 60), FinishedRow(1, "b", "stop", None, 10, 20)]
    attempt = attempt_of(
        "w1", 1, DEAR, Buckets(useful=4_000_000), TokenCounts(output=60, wasted=0, copied=20)
    )
    published = _published(manifest_of(shard_of(0, 2), rows, [attempt]))
    sessions = {
        "w1": session("w1", Buckets(useful=4_000_000, idle=4_000_000), decoded=60),
        "w2": replace(session("w2", Buckets(wasted=2_000_000), decoded=25), unshared=5),
    }
    told = run_figures({0: 2, 1: 5}, published, sessions)
    assert values(told, "spotmill.goodput") == [80 / 85], "of w2's tokens 5 were for no shard"
    assert values(told, "spotmill.tokens.wasted") == [5]
    assert values(told, "spotmill.goodput.useful") == [4 / 10]
    assert values(told, "spotmill.goodput.rate") == [100 / 10]
    assert values(told, "spotmill.queue.rows") == [5]
    # 10 s at 3.60 an hour are a cent, for 80 tokens that were decoded and 20 that were copied.
    assert values(told, "spotmill.cost.per_1k_output_tokens") == [Decimal("0.1")]


def test_a_token_costs_what_it_costs_before_the_first_large_shard_is_published() -> None:
    """An hour of eight workers, and one small shard published: 8 hours at 3.60 USD, 26.4 million
    tokens."""
    hour = Buckets(load=300_000_000, useful=3_300_000_000)
    sessions = {f"w{n}": session(f"w{n}", hour, decoded=3_300_000) for n in range(8)}
    rows = [FinishedRow(0, "a", "stop", None, 10, 10_000)]
    attempt = attempt_of("w0", 1, DEAR, Buckets(), TokenCounts(output=10_000))
    told = run_figures({}, _published(manifest_of(shard_of(0, 1), rows, [attempt])), sessions)
    assert values(told, "spotmill.cost.per_1k_output_tokens") == [Decimal("0.001090909091")]
    assert values(told, "spotmill.goodput") == [1.0]


@bounded
@given(run_books())
def test_closed_books_are_told_as_they_are(a_run: RunBooks) -> None:
    closed = a_run.run
    told = run_figures({}, _published(*a_run.manifests), {}, closed)
    cost, tokens = closed["cost"], closed["tokens"]
    assert values(told, "spotmill.cost") == [Decimal(cost["total"])]
    per_1k = [] if cost["per_1k_output_tokens"] is None else [Decimal(cost["per_1k_output_tokens"])]
    assert values(told, "spotmill.cost.per_1k_output_tokens") == per_1k
    kept = tokens["output"] - tokens["copied"]
    decoded = kept + tokens["wasted"]
    assert values(told, "spotmill.goodput") == ([kept / decoded] if decoded else [])
    assert values(told, "spotmill.tokens.wasted") == [tokens["wasted"]]
    over = replace(a_run, complete=True)
    assert values(told, "spotmill.preemptions") == [len(preempted(over))]


def test_goodput_is_never_more_than_all() -> None:
    rows = [FinishedRow(0, "a", "stop", None, 10, 60)]
    attempt = attempt_of("w1", 1, DEAR, Buckets(), TokenCounts(output=60))
    published = _published(manifest_of(shard_of(0, 1), rows, [attempt]))
    told = run_figures({0: 1}, published, {"w1": session(decoded=40)})
    assert values(told, "spotmill.goodput") == [1.0], "its last beat knew of 40"


def test_before_anything_is_known_there_are_no_ratios() -> None:
    told = {figure.name for figure in run_figures({0: 3}, PublishedShards(), {})}
    assert not told & {
        "spotmill.goodput",
        "spotmill.goodput.useful",
        "spotmill.goodput.rate",
        "spotmill.drafts.acceptance",
        "spotmill.prefix_cache.hits",
        "spotmill.cost.per_1k_output_tokens",
    }


def test_a_worker_that_was_taken_is_one_preemption_however_many_shards_it_held() -> None:
    def lost(shard_id: int, worker: str) -> dict[str, object]:
        row = FinishedRow(0, "a", "stop", None, 1, 1)
        first = attempt_of(worker, 1, DEAR, Buckets())
        second = replace(attempt_of("w9", 2, DEAR, Buckets()), end="published")
        return manifest_of(shard_of(shard_id, 1), [row], [first, second])

    told = run_figures({}, _published(lost(0, "w1"), lost(1, "w1"), lost(2, "w2")), {})
    assert values(told, "spotmill.preemptions") == [2]
    ends = {f.labels["spotmill.end"]: f.value for f in told if f.name == "spotmill.attempts"}
    assert ends == {"lost": 3, "published": 3}
    sessions = {"w2": session("w2", state="failed")}
    failed = run_figures({}, _published(lost(0, "w1"), lost(1, "w2")), sessions)
    assert values(failed, "spotmill.preemptions") == [1], "an engine that failed was not taken"


def test_a_helper_that_hands_over_its_portion_was_not_taken() -> None:
    row = FinishedRow(0, "a", "stop", None, 1, 1)
    helper = replace(attempt_of("w2", 1, DEAR, Buckets()), end="drained", portion=1, take=1)
    owner = replace(attempt_of("w1", 1, DEAR, Buckets()), end="published")
    told = run_figures({}, _published(manifest_of(shard_of(0, 1), [row], [helper, owner])), {})
    assert values(told, "spotmill.preemptions") == [0]


def test_shards_in_hand_are_claimed() -> None:
    holding = replace(session("w1"), shards={1: ShardAccount(1), 2: ShardAccount(1)})
    dead = replace(session("w2", state="ended"), shards={3: ShardAccount(1)})
    told = run_figures({0: 1, 1: 1, 2: 1, 3: 1}, PublishedShards(), {"w1": holding, "w2": dead})
    assert values(told, "spotmill.queue.shards") == [4]
    assert values(told, "spotmill.queue.unclaimed") == [2]
    states = {f.labels["spotmill.state"]: f.value for f in told if f.name == "spotmill.workers"}
    assert states == {"work": 1, "ended": 1}


def test_the_page_explains_every_figure_and_no_other() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \| (\w+) \| `(.+?)` \| (.+) \|$", PAGE.read_text(), re.M
    )
    assert {name: (kind, unit, text) for name, kind, unit, text in rows} == {
        name: (meaning.kind, meaning.unit, meaning.help) for name, meaning in MEANINGS.items()
    }
