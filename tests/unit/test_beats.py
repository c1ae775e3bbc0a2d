"""What beats tell of a worker's seconds, its own and those in its stead: never less than before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from pipeline.beats import Beats
from pipeline.beginning import begin_session
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.ports import ObjectStore
from pipeline.core.session import Session
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.errands import Errands
from pipeline.feed import Feed
from pipeline.ledger import Ledger
from pipeline.patience import Patience
from pipeline.session_ledger import SessionLedger
from pipeline.stores.memory import MemoryStore
from tests.simulation.fakes import InlineExecutor, VirtualClock
from tests.simulation.memory_rows import JsonFormat
from tests.unit.strategies import bounded

LEASE, BOOT = 8.0, 1.5
LATE = 1.5 * LEASE / 4
PRICE = NodePrice(Decimal("1.29"), "a book")

Kind = Literal["step", "wait", "load", "talk"]


class Beside(Errands):
    """What is repeated beside the worker is done when a test says so."""

    def __init__(self) -> None:
        super().__init__(InlineExecutor())
        self.now: Callable[[], None] = lambda: None

    @contextmanager
    def repeated(self, errand: Callable[[], None], seconds: float) -> Iterator[None]:
        self.now = errand
        yield


class Told(SessionLedger):
    """Notes every session that is beaten."""

    def __init__(self, store: ObjectStore, run_id: str) -> None:
        super().__init__(store, run_id)
        self.beaten: list[Session] = []

    def beat(self, session: Session) -> None:
        self.beaten.append(session)


@dataclass(slots=True)
class Life:
    """A worker's loop without its work: time passes in steps, waits and loads, and now and then
    another thread has a look at it."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    errands: Beside = field(default_factory=Beside)
    told: Told = field(init=False)
    beats: Beats = field(init=False)
    shown: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        store = MemoryStore()
        ledger = Ledger(store, "night", JsonFormat())
        ledger.sessions = self.told = Told(store, "night")
        begun = begin_session(
            ledger, self.clock, "w", boot_seconds=BOOT, lease_seconds=LEASE, nonce="n"
        )
        self.beats = Beats(
            begun, ledger, self.errands, self.clock, Patience(self.clock), self.shown.append
        )
        self.beats.tell_price(Node(), Fraction(1), PRICE)
        self.beats.booted()
        engine = ScriptedEngine(ScriptedSettings(), self.clock.sleep)
        self.beats.feed = Feed(engine, self.errands, self.clock, self.beats.sheet)
        self.beats.loaded()

    @property
    def lived(self) -> int:
        return round((BOOT + self.clock.now()) * 1e6)

    def passes(self, seconds: float, looks: int) -> None:
        """So much time, with so many looks of the other thread in it."""
        for _ in range(looks):
            self.clock.sleep(seconds / (looks + 1))
            self.errands.now()
            self.check()
        self.clock.sleep(seconds / (looks + 1))

    def do(self, kind: Kind, seconds: float, looks: int) -> None:
        sheet = self.beats.sheet
        if kind == "load":
            self.beats.loading()
        self.passes(seconds, looks)
        if kind == "step":
            sheet.pass_to(self.clock.now(), "useful")
        elif kind == "wait":
            self.beats.own_up()
            sheet.pass_to(self.clock.now(), "idle")
        elif kind == "load":
            sheet.pass_to(self.clock.now(), "load")
            self.beats.loaded()
        self.beats.beat_when_due()
        self.errands.collect()
        self.check()

    def check(self) -> None:
        """The newest beat tells of all but what goes on now, and of no less than any before it."""
        *before, newest = self.told.beaten
        unbilled = self.lived - newest.buckets.total
        assert unbilled >= 0
        if newest.beat_at == self.clock.timestamp():
            assert unbilled < LATE * 1e6
        for earlier in before[-1:]:
            assert_only_grew(earlier.buckets, newest.buckets)


def assert_only_grew(before: Buckets, now: Buckets) -> None:
    """What was useful may turn out to be wasted, and nothing else changes its place."""
    grown = now - before
    assert min(grown.boot, grown.load, grown.idle, grown.drain) >= 0, (before, now)
    assert grown.useful + grown.wasted >= 0, (before, now)


# Binary fractions, also of a half, a third and a quarter of it, so that no sum is rounded.
seconds = st.integers(0, 27).map(lambda n: n * 0.75)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["step", "wait", "load", "talk"])


@bounded
@given(st.lists(st.tuples(kinds, seconds, st.integers(0, 3)), max_size=12))
def test_an_account_that_was_told_only_grows(done: list[tuple[Kind, float, int]]) -> None:
    """Whatever a worker is stuck in, and whether it was frozen in a wait, or in its own loop."""
    life = Life()
    with life.beats.stood_in_for():
        for kind, duration, looks in done:
            life.do(kind, duration, looks)
    life.beats.own_up()
    life.beats.end("ended", None, 20.0)
    life.check()
    last = life.told.beaten[-1]
    assert last.over
    assert last.buckets.total == life.lived


def test_a_worker_whose_engine_hangs_is_billed_for_it() -> None:
    life = Life()
    with life.beats.stood_in_for():
        life.do("step", 2.0, 0)
        life.passes(60.0, 59)
    last = life.told.beaten[-1]
    assert last.buckets.wasted == 59e6
    assert last.buckets.useful == 2e6
    assert life.lived - last.buckets.total == 1e6
    assert life.shown[-1] == last, "listeners hear of it, too"
