"""What one seed stands for: the rows, the fleet, and all that will go wrong, as plain facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from pipeline.core.notice import Notice, NoticeKind
from pipeline.core.rows import Sampling
from pipeline.engines.scripted import DEADLY, HANGING, REJECTED
from pipeline.stores.faults import Effect
from tests.simulation.memory_rows import Row
from tests.simulation.sim_pool import Hearing
from tests.simulation.sim_store import Blow, ObjectKind, Weather

EXACT = Sampling(max_tokens=10)
POISONS = (DEADLY, HANGING)
RESTARTS = Sampling(max_tokens=10, temperature=0.7, seed=7)
ENOUGH_SECONDS = 15.0
"""A notice that leaves this much leaves time for a drain, where the store answers."""

Kind = Literal["wild", "kills", "notices"]
_TARGETS: tuple[ObjectKind, ...] = (
    "data",
    "leases",
    "checkpoints",
    "sessions",
    "manifests",
    "manifest.json",
)
_WORDS: tuple[NoticeKind, ...] = ("risk", "reclaim", "stop")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things happen, in rows and virtual seconds; `ask_seconds` is how long a worker asks
    what it costs."""

    workers: int = 2
    window: int = 3
    threads: int = 12
    chunk_rows: int = 2
    chunk_seconds: float = 3.0
    lease_seconds: float = 16.0
    step_seconds: float = 1.0
    boot_seconds: float = 2.0
    ask_seconds: float = 0.0
    load_seconds: float = 2.0
    tick_seconds: float = 2.0
    store_patience_seconds: float = 600.0
    retries: int = 0
    own_process: bool = True
    hang_seconds: float = 10.0
    close_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """At second `at`, to this share of those it can strike, but to one at the least.

    A pause freezes for `seconds`; after a notice the machine goes in `seconds`, None is never.
    """

    at: float
    kind: Literal["kill", "notice", "pause", "kill supervisor"]
    share: float = 0.0
    seconds: float | None = None
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class Night:
    """`dies_at` says at which wait for time or store the n-th worker dies, `strikes` what happens
    to the n-th store call of a process, `aims` to the n-th write of a kind of object. From
    `calm_from` on, nothing goes wrong any more but by these three."""

    seed: int = 0
    kind: Kind = "wild"
    rows: Mapping[int, tuple[Row, ...]] = field(default_factory=dict)
    pace: Pace = Pace()
    weather: Weather = Weather()
    hearing: Hearing = Hearing()
    supervisors: int = 1
    events: tuple[Event, ...] = ()
    dies_at: Mapping[int, int] = field(default_factory=dict)
    strikes: Mapping[tuple[str, int], Blow] = field(default_factory=dict)
    aims: Mapping[tuple[ObjectKind, int], Blow] = field(default_factory=dict)
    calm_from: float = 0.0

    def in_words(self) -> str:
        """One fact a line."""
        rows = [f"shard {shard}: {len(rows)} rows" for shard, rows in self.rows.items()]
        sampling = "that continue exactly" if self.exact else "some of which restart"
        return "\n".join(
            (
                f"seed {self.seed}: a {self.kind!r} night, calm from {self.calm_from:.1f} s",
                f"{', '.join(rows)}, {sampling}; {self.supervisors} supervisors",
                str(self.pace),
                str(self.weather),
                str(self.hearing),
                *(str(event) for event in self.events),
                f"workers that die at their n-th wait: {dict(self.dies_at)}",
                f"what happens to the n-th write of a kind: {dict(self.aims)}",
            )
        )

    @property
    def poison(self) -> int:
        """Rows that kill engines."""
        prompts = (row.prompt for rows in self.rows.values() for row in rows)
        return sum(any(mark in prompt for mark in POISONS) for prompt in prompts)

    @property
    def exact(self) -> bool:
        return all(row.sampling.continues_exactly for rows in self.rows.values() for row in rows)

    @property
    def kills(self) -> bool:
        """Whether anybody may die without having had the time to drain."""
        return bool(self.dies_at or self.strikes) or any(
            event.kind == "kill" or (event.seconds or ENOUGH_SECONDS) < ENOUGH_SECONDS
            for event in self.events
            if event.kind != "pause"
        )

    @property
    def answers(self) -> bool:
        """Whether the store answers every call of the living, and soon."""
        blows = {*self.strikes.values(), *self.aims.values()}
        return self.weather.answers and blows <= {"killed before", "killed after", "frozen"}

    @property
    def freezes(self) -> bool:
        """Whether a process may stand still for a while."""
        paused = any(event.kind == "pause" for event in self.events)
        return paused or "frozen" in {*self.strikes.values(), *self.aims.values()}


def night(seed: int) -> Night:
    """The night of this seed, always the same."""
    dice = Random(seed)
    kind: Kind = dice.choices(("wild", "kills", "notices"), (6, 3, 1))[0]
    rows = _rows(dice, kind, exact=kind == "notices" or dice.random() < 0.5)
    pace = _pace(dice)
    tokens = 6 * sum(len(shard) for shard in rows.values())
    alone = pace.boot_seconds + pace.load_seconds + 5 + tokens * pace.step_seconds / pace.window
    calm_from = alone * (0.5 + dice.random())
    weather, hearing = _sky(dice, kind, calm_from)
    # From dice of its own, so that what else a seed stands for stays what it was.
    later = Random(f"later {seed}")
    hearing = replace(hearing, again=later.choice((0.0, 0.0, 0.5)))
    pace = replace(
        pace,
        ask_seconds=later.choice((0.0, 0.5, 3.0, 20.0)),
        close_seconds=later.choice((0.0, 0.5, 6.0)),
    )
    return Night(
        seed=seed,
        kind=kind,
        rows=rows,
        pace=pace,
        weather=weather,
        hearing=hearing,
        supervisors=1 if dice.random() < 0.8 else 2,
        events=tuple(_events(dice, kind, pace, calm_from)),
        dies_at=_deaths(dice) if kind != "notices" else {},
        aims=dict(_aims(dice, kind)) if kind != "notices" else {},
        calm_from=calm_from,
    )


def _rows(dice: Random, kind: Kind, exact: bool) -> dict[int, tuple[Row, ...]]:
    poison = kind == "wild" and dice.random() < 0.15

    shards: list[list[Row]] = []

    def row(shard: int, number: int) -> Row:
        if number and dice.random() < 0.15:
            # Asked before, and perhaps generated only once.
            return dice.choice(shards[shard])
        if poison and dice.random() < 0.1:
            # As long as the others, or it would always be the first in line.
            return Row(f"{dice.choice(POISONS)} {shard}/{number}", EXACT)
        if dice.random() < 0.05:
            return Row(dice.choice(("", REJECTED, "a prompt too long " * 6)))
        sampling = EXACT if exact or dice.random() < 0.5 else RESTARTS
        return Row(f"{dice.getrandbits(16)} {shard}/{number}", sampling)

    for shard in range(dice.choice((1, 2, 3, 4))):
        shards.append([])
        for number in range(dice.randint(1, 9) if dice.random() < 0.97 else 0):
            shards[shard].append(row(shard, number))
    return {shard: tuple(rows) for shard, rows in enumerate(shards)}


def _pace(dice: Random) -> Pace:
    return Pace(
        workers=dice.choice((1, 2, 3, 3, 4)),
        window=dice.choice((1, 2, 3, 4)),
        threads=dice.choice((12, 12, 12, 3)),
        chunk_rows=dice.choice((1, 2, 3, 9)),
        chunk_seconds=dice.choice((2.0, 3.0, 6.0)),
        lease_seconds=dice.choice((8.0, 16.0, 32.0)),
        step_seconds=dice.choice((0.5, 1.0, 2.0)),
        boot_seconds=dice.choice((1.0, 2.0, 10.0)),
        load_seconds=dice.choice((0.5, 2.0, 10.0)),
        tick_seconds=dice.choice((2.0, 4.0)),
        store_patience_seconds=dice.choice((20.0, 600.0)),
        retries=dice.choice((0, 8)),
        own_process=dice.random() < 0.5,
    )


def _sky(dice: Random, kind: Kind, calm_from: float) -> tuple[Weather, Hearing]:
    """Everything may fail in a wild night; in the others, the store answers and the pool hears."""
    if kind != "wild":
        return Weather(latency=dice.choice((0.0, 0.1, 0.25))), Hearing(seconds=2.0)
    outages = tuple(
        (first, min(calm_from, first + dice.choice((3.0, 15.0, 90.0, 300.0))))
        for first in (dice.random() * calm_from for _ in range(dice.choice((0, 0, 0, 1, 2))))
    )
    weather = Weather(
        latency=dice.choice((0.0, 0.25, 1.0)),
        faults=dice.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
        late=dice.choice((0.0, 0.0, 0.02)),
        slow=dice.choice((0.0, 0.0, 0.02, 0.1)),
        slow_seconds=dice.choice((4.0, 20.0, 60.0)),
        stale=dice.choice((0.0, 0.0, 0.1, 0.5)),
        stale_seconds=dice.choice((2.0, 8.0)),
        outages=outages,
        clears_at=calm_from,
    )
    hearing = Hearing(
        seconds=dice.choice((1.0, 10.0, 60.0)),
        deaf=dice.choice((0.0, 0.0, 0.0, 0.3)),
        away=dice.choice((0.0, 0.0, 0.2)),
        clears_at=calm_from,
    )
    return weather, hearing


def _events(dice: Random, kind: Kind, pace: Pace, calm_from: float) -> list[Event]:
    def one_or_many() -> float:
        return 0.0 if dice.random() < 0.7 else dice.choice((0.5, 1.0))

    def moment() -> float:
        return round(dice.random() * calm_from * 64) / 64

    def notice() -> Event:
        word = dice.choice(_WORDS)
        if kind != "notices":
            promised = dice.choice((2.0, 30.0, 120.0, None))
            goes = dice.choice((promised, 1.0, 5.0, None))
        else:
            # Told in time or, of a mere risk, told for nothing.
            promised = dice.choice((ENOUGH_SECONDS, 30.0, 120.0, None))
            goes = None if word == "risk" else dice.choice((promised or 60.0, None))
        return Event(moment(), "notice", one_or_many(), goes, Notice(word, word, promised))

    def event() -> Event:
        if kind == "notices":
            return notice()
        kinds = ("kill", "notice", "pause", "supervisor")
        chosen = dice.choices(kinds, (4, 2, 5, 1) if kind == "wild" else (8, 1, 0, 2))[0]
        if chosen == "notice":
            return notice()
        if chosen == "pause":
            seconds = dice.choice((0.5, 2.5, 5.0)) * pace.lease_seconds
            return Event(moment(), "pause", one_or_many(), seconds)
        if chosen == "supervisor":
            return Event(moment(), "kill supervisor")
        return Event(moment(), "kill", one_or_many())

    return sorted((event() for _ in range(dice.randint(0, 6))), key=lambda event: event.at)


def _deaths(dice: Random) -> dict[int, int]:
    return {worker: dice.randint(1, 80) for worker in range(4) if dice.random() < 0.2}


def _aims(dice: Random, kind: Kind) -> Iterator[tuple[tuple[ObjectKind, int], Blow]]:
    """Blows where few calls are made and much depends on them."""
    deaths: tuple[Blow, ...] = ("killed before", "killed after")
    blows = deaths if kind == "kills" else (*deaths, "frozen", "frozen", "late", Effect.LOST)
    for _ in range(dice.choice((0, 0, 1, 2))):
        target = dice.choices(_TARGETS, (4, 2, 2, 2, 1, 1))[0]
        yield (target, dice.randint(1, 3 if target == "data" else 9)), dice.choice(blows)
