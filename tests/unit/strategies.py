"""Hypothesis strategies for the facts of the core."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from pipeline.core.checkpoint import Attempt, AttemptEnd, Checkpoint
from pipeline.core.money import UNKNOWN_PRICE, Buckets, Node, NodePrice
from pipeline.core.rows import FinishedRow, PositionLogprobs, TokenCounts, TokenLogprob
from pipeline.core.spans import Span

bounded = settings(deadline=None, max_examples=80)

# What Parquet and JSON can both hold: no lone surrogates.
texts = st.text(st.characters(codec="utf-8"), max_size=12)
counts = st.integers(0, 10_000)
micros = st.integers(0, 10**11)
prices_per_hour = st.decimals("0", "999.999999", allow_nan=False, places=6)


def buckets(each: st.SearchStrategy[int] = micros) -> st.SearchStrategy[Buckets]:
    return st.builds(Buckets, each, each, each, each, each, each)


def known_prices() -> st.SearchStrategy[NodePrice]:
    listed = st.sampled_from(["unknown", "a list"])
    return st.builds(NodePrice, prices_per_hour, st.just("a book"), prices_per_hour, listed)


def earlier_spans() -> st.SearchStrategy[tuple[Span, ...]]:
    """Seconds at up to two prices that nothing else has."""
    each = st.builds(Span, st.builds(NodePrice, prices_per_hour, st.just("earlier")), buckets())
    return st.lists(each, max_size=2, unique_by=lambda span: span.price).map(tuple)


def any_prices() -> st.SearchStrategy[NodePrice]:
    unknown = st.just(NodePrice(None, "unknown"))
    no_spot_price = st.builds(NodePrice, st.none(), texts, prices_per_hour)
    return st.one_of(known_prices(), unknown, no_spot_price)


token_counts = st.builds(TokenCounts, counts, counts, counts, counts, counts, counts)


_token_ids = st.integers(0, 2**31 - 1)
_logprobs = st.floats(max_value=0.0, width=32)
_top = st.builds(TokenLogprob, texts, _token_ids, _logprobs)
positions = st.builds(
    PositionLogprobs, texts, _token_ids, _logprobs, st.lists(_top, max_size=2).map(tuple)
)


@st.composite
def finished_rows(draw: st.DrawFn, row: int | None = None) -> FinishedRow:
    number = draw(counts) if row is None else row
    if draw(st.booleans()):
        return FinishedRow(number, error=draw(texts))
    return FinishedRow(
        number,
        completion=draw(texts),
        finish_reason=draw(st.sampled_from(["stop", "length"])),
        prompt_tokens=draw(counts),
        completion_tokens=draw(counts),
        cached_tokens=draw(counts),
        logprobs=draw(st.none() | st.lists(positions, max_size=3).map(tuple)),
    )


@st.composite
def attempts(draw: st.DrawFn, worker_id: str | None = None, epoch: int | None = None) -> Attempt:
    ends: list[AttemptEnd] = ["published", "drained", "lost", "superseded"]
    earlier = draw(earlier_spans())
    return Attempt(
        worker_id=draw(texts) if worker_id is None else worker_id,
        epoch=draw(st.integers(1, 9)) if epoch is None else epoch,
        node=draw(st.builds(Node, texts, texts, texts, texts)),
        price=draw(any_prices()),
        started_at="2026-11-20T00:00:00Z",
        ended_at="2026-11-20T01:00:00Z",
        end=draw(st.sampled_from(ends)),
        buckets=sum((span.buckets for span in earlier), draw(buckets())),
        rows=draw(counts),
        tokens=draw(token_counts),
        earlier=earlier,
        lived=draw(earlier_spans()),
    )


@st.composite
def checkpoints(
    draw: st.DrawFn, epoch: int | None = None, seq: int | None = None, rows: int = 6
) -> Checkpoint:
    """Of a shard with this many rows."""
    numbers = st.integers(0, rows - 1)
    finished = sorted(draw(st.sets(numbers)))
    in_flight = draw(
        st.dictionaries(
            numbers.filter(lambda row: row not in finished),
            st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5).map(tuple),
        )
    )
    the_epoch = draw(st.integers(1, 9)) if epoch is None else epoch
    return Checkpoint(
        shard_id=draw(st.integers(0, 99_999)),
        epoch=the_epoch,
        seq=draw(st.integers(1, 9)) if seq is None else seq,
        nonce=draw(st.sampled_from(["a1", "b2"])),
        finished=tuple(draw(finished_rows(row)) for row in finished),
        in_flight=in_flight,
        attempt=draw(attempts(epoch=the_epoch)),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Checkpoint]:
    """Checkpoints of one shard, each (epoch, seq) once, in an order of no meaning."""
    names = draw(st.sets(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=6))
    return draw(st.permutations([draw(_small_checkpoints(*name)) for name in sorted(names)]))


@st.composite
def _small_checkpoints(draw: st.DrawFn, epoch: int, seq: int) -> Checkpoint:
    """Every value tells which checkpoint it is from; only which rows it holds is drawn."""
    states = draw(st.lists(st.sampled_from(["not begun", "begun", "done"]), min_size=6, max_size=6))
    mark = 10 * epoch + seq
    return Checkpoint(
        shard_id=1,
        epoch=epoch,
        seq=seq,
        nonce="n",
        finished=tuple(
            FinishedRow(row, completion=str(mark))
            for row, state in enumerate(states)
            if state == "done"
        ),
        in_flight={row: (mark,) for row, state in enumerate(states) if state == "begun"},
        attempt=Attempt(
            f"w{epoch}", epoch, Node(), UNKNOWN_PRICE, "start", "end", "lost", rows=mark
        ),
    )
