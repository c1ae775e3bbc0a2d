"""Every second of a worker is in one bucket, and shards are charged for no second twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.checkpoint import Progress
from pipeline.core.lease import Lease
from pipeline.core.money import Bucket, Buckets, NodePrice
from pipeline.core.rows import EngineMetrics, Request, Sampling
from pipeline.core.spans import spans_of, together
from pipeline.held import HeldShard
from pipeline.timesheet import Timesheet
from tests.simulation.memory_rows import MemoryShard, Row
from tests.unit.books import shard_of
from tests.unit.strategies import bounded

ROW = Row("x")


def held(shard_id: int) -> HeldShard:
    """A shard of which one row is in the engine."""
    lease = Lease(shard_id, 1, "w", "n", "now")
    shard = HeldShard(shard_of(shard_id, 1), lease, MemoryShard([ROW]), Progress(), 0.0)
    shard.running[0] = Request(shard.request_id(0), (1,), Sampling())
    return shard


@dataclass(slots=True)
class Night:
    """A worker with three shards, and what it did."""

    sheet: Timesheet = field(default_factory=lambda: Timesheet(0.0, 5))
    shards: list[HeldShard] = field(default_factory=lambda: [held(n) for n in range(3)])
    tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)
    now: float = 0.0
    drafts: int = 0

    def decode(self, shard: HeldShard, count: int) -> None:
        name = shard.request_id(0)
        self.tokens[name] = self.tokens.get(name, ()) + (1,) * count

    def settle(self) -> None:
        held = {shard.name: shard for shard in self.shards}
        self.sheet.settle(held, self.tokens, EngineMetrics(self.drafts, self.drafts // 2))


steps = st.lists(
    st.tuples(
        st.floats(0, 1_000),
        st.sampled_from(["useful", "idle", "load", "drain"]),
        st.integers(0, 2),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=20,
)


@bounded
@given(steps)
def test_time_and_tokens_are_conserved(done: list[tuple[float, Bucket, int, int, bool]]) -> None:
    night = Night()
    for seconds, bucket, shard_id, tokens, settles in done:
        night.now += seconds
        night.sheet.pass_to(night.now, bucket, night.shards[shard_id])
        night.decode(night.shards[shard_id], tokens)
        night.drafts += tokens
        if settles:
            night.settle()
    night.settle()
    spent = night.sheet.buckets
    charged = sum((shard.buckets for shard in night.shards), Buckets())
    assert abs(spent.total - 5 - night.now * 1e6) <= 1
    assert charged.useful == spent.useful
    assert charged.overhead == spent.overhead - 5
    assert night.sheet.decoded == sum(map(len, night.tokens.values()))
    assert sum(s.tokens.draft_proposed for s in night.shards) == night.drafts
    assert sum(s.tokens.draft_accepted for s in night.shards) == night.drafts // 2


def test_useful_time_is_shared_by_the_tokens_decoded_in_it() -> None:
    night = Night()
    night.decode(night.shards[0], 3)
    night.decode(night.shards[1], 1)
    night.sheet.pass_to(4.0, "useful")
    night.settle()
    assert [s.buckets.useful for s in night.shards] == [3_000_000, 1_000_000, 0]
    night.decode(night.shards[2], 7)
    night.sheet.pass_to(5.0, "useful")
    night.settle()
    assert [s.buckets.useful for s in night.shards] == [3_000_000, 1_000_000, 1_000_000]


def test_time_before_the_first_token_is_shared_alike() -> None:
    night = Night()
    night.sheet.pass_to(3.0, "useful")
    night.settle()
    assert [s.buckets.useful for s in night.shards] == [1_000_000] * 3


def test_what_is_written_off_moves_and_stays_on_the_bill() -> None:
    night = Night()
    night.sheet.pass_to(3.0, "useful")
    night.settle()
    night.sheet.write_off(night.shards[0])
    assert night.sheet.buckets == Buckets(boot=5, useful=2_000_000, wasted=1_000_000)


ONE, TWO = (NodePrice(Decimal(usd), "a book") for usd in (1, 2))
changes = st.lists(st.tuples(st.floats(0, 1_000), st.integers(0, 2), st.sampled_from([ONE, TWO])))


@bounded
@given(changes)
def test_at_every_price_shards_are_charged_for_what_the_worker_lived(
    done: list[tuple[float, int, NodePrice]],
) -> None:
    """Through prices that come and go, also where work turns out to be for nothing."""
    night = Night()
    for seconds, shard_id, price in done:
        night.now += seconds
        night.decode(night.shards[shard_id], 1)
        night.sheet.pass_to(night.now, "useful")
        night.settle()
        assert night.sheet.all_shared
        night.sheet.reprice(price, night.shards)
    sheet = night.sheet
    lived = together(spans_of(sheet.price, sheet.buckets, sheet.earlier))
    charged = together(
        span for s in night.shards for span in spans_of(sheet.price, s.buckets, s.earlier)
    )
    for price, spent in lived.items():
        assert spent.useful == charged.get(price, Buckets()).useful
    sheet.write_off(night.shards[0])
    in_vain = together(spans_of(sheet.price, night.shards[0].buckets, night.shards[0].earlier))
    for price, spent in together(spans_of(sheet.price, sheet.buckets, sheet.earlier)).items():
        assert spent.useful == lived[price].useful - in_vain.get(price, Buckets()).useful
        assert spent.total == lived[price].total


def test_a_price_waits_for_seconds_that_nobody_can_be_charged_with_yet() -> None:
    night = Night()
    for shard in night.shards:
        shard.running.clear()
    night.sheet.pass_to(1.0, "useful")
    night.settle()
    assert not night.sheet.all_shared


class Raised(BaseException):
    """What a flow is stopped by, in the middle of anything."""


def raising_at(moment: int) -> Callable[[FrameType, str, object], Any]:
    """A tracer that raises before the opcode of this number in `settle` and what it calls of ours:
    what the collector of garbage calls in between swallows it."""
    left = moment

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_globals["__name__"].startswith(("pipeline.", "tests.")):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                raise Raised
        return trace

    return trace


def settled_but_for(moment: int) -> tuple[Night, bool]:
    """A night that is settled twice, the first time only up to this moment; whether it was."""
    night = Night()
    night.sheet.pass_to(8.0, "useful")
    for shard, tokens in zip(night.shards, (3, 1, 4), strict=True):
        night.decode(shard, tokens)
    night.drafts = 8
    before = sys.gettrace()
    sys.settrace(raising_at(moment))
    try:
        night.settle()
    except Raised:
        stopped = True
    else:
        stopped = False
    finally:
        sys.settrace(before)
    night.settle()
    return night, stopped


def test_whatever_is_raised_at_any_moment_nothing_is_counted_twice() -> None:
    moment, stopped = 0, True
    while stopped:
        night, stopped = settled_but_for(moment)
        charged = sum((shard.buckets for shard in night.shards), Buckets())
        assert charged.useful <= night.sheet.buckets.useful == 8_000_000, moment
        assert night.sheet.decoded == 8, moment
        assert night.sheet.draft_proposed <= 8, moment
        assert sum(shard.tokens.draft_proposed for shard in night.shards) <= 8, moment
        moment += 1
    assert moment > 200, "hardly a moment was tried"
    assert charged.useful == 8_000_000
