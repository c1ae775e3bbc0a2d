"""One bucket that many processes call, each over a line of its own that fails as the weather is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias, TypeVar, cast

from pipeline.core.errors import StoreUnavailable
from pipeline.core.ports import Body
from pipeline.stores.faults import Effect
from pipeline.stores.memory import MemoryStore
from tests.simulation.process import Process
from tests.simulation.scheduler import Killed

T = TypeVar("T")
Verb: TypeAlias = Literal["get", "put", "create", "list", "delete"]
Blow: TypeAlias = Effect | Literal["killed before", "killed after", "frozen", "late"]
BLOWS: tuple[Blow, ...] = (
    "killed before",
    "killed after",
    "frozen",
    "late",
    Effect.LOST,
    Effect.TORN,
    Effect.REFUSED,
)
_WRITES = frozenset({"put", "create", "delete"})
ObjectKind: TypeAlias = Literal[
    "data",
    "leases",
    "sessions",
    "ended",
    "checkpoints",
    "manifests",
    "manifest.json",
    "allowance.json",
]
_MADE_ONCE = frozenset({"data", "leases", "ended", "checkpoints", "manifest.json"})
_FAILURES = (Effect.REFUSED, Effect.TORN, Effect.LOST)
Trace: TypeAlias = Callable[[float, str, str, str, str], None]
"""Told second, process, verb, key, and what came of it."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How the store answers until second `clears_at`; after that, it only takes its time.

    `latency` bounds the seconds before a call is applied, and those after. `faults`, `late`, `slow`
    and `stale` are shares of the calls: a late write is applied up to `slow_seconds` after its
    caller gave up, a slow call takes up to `slow_seconds`, and a stale listing misses what was
    created in the last `stale_seconds`. In `outages` every call fails.
    """

    latency: float = 0.25
    faults: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 0.0
    stale: float = 0.0
    stale_seconds: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    clears_at: float = 0.0

    @property
    def answers(self) -> bool:
        """Whether every call succeeds, and soon."""
        return not (self.faults or self.late or self.slow or self.stale or self.outages)

    def away(self, now: float) -> bool:
        return any(first <= now < last for first, last in self.outages)


@dataclass(slots=True)
class Bucket:
    """`strikes` say what happens to a process's n-th call, `aims` to the n-th write of a kind of
    object by anybody; everything else is the weather's."""

    weather: Weather
    dice: Random
    strikes: Mapping[tuple[str, int], Blow] = field(default_factory=dict)
    aims: Mapping[tuple[ObjectKind, int], Blow] = field(default_factory=dict)
    trace: Trace | None = None
    memory: MemoryStore = field(default_factory=MemoryStore)
    made: list[tuple[float, str]] = field(default_factory=list)
    put_at: dict[str, float] = field(default_factory=dict)
    written_at: dict[str, float] = field(default_factory=dict)
    writes: Counter[ObjectKind] = field(default_factory=Counter)


def kind_of(key: str) -> ObjectKind:
    """The part of a key that says what it is: `data/run=x/...`, `runs/x/leases/...`."""
    first, _, rest = key.partition("/")
    return cast("ObjectKind", first if first == "data" else rest.split("/")[1])


class SimStore:
    """Implements `ObjectStore` for one process, whose waiting lets the others go on."""

    def __init__(self, bucket: Bucket, process: Process) -> None:
        self._bucket = bucket
        self._process = process
        self._memory = bucket.memory
        self.calls = 0

    def get(self, key: str) -> bytes | None:
        return self._call("get", key, lambda: self._memory.get(key))

    def put(self, key: str, body: bytes) -> None:
        assert kind_of(key) not in _MADE_ONCE, f"{key} is made once, and never overwritten"

        def apply() -> None:
            self._memory.put(key, body)
            self._bucket.put_at[key] = self._process.scheduler.now
            self._bucket.written_at[key] = self._process.scheduler.now

        self._call("put", key, apply)

    def create(self, key: str, body: Body) -> bool:
        def apply() -> bool:
            made = self._memory.create(key, body)
            if made:
                self._bucket.made.append((self._process.scheduler.now, key))
                self._bucket.written_at[key] = self._process.scheduler.now
            return made

        return self._call("create", key, apply)

    def list(self, prefix: str) -> Sequence[str]:
        return self._call("list", prefix, lambda: self._memory.list(prefix))

    def delete(self, key: str) -> None:
        self._call("delete", key, lambda: self._memory.delete(key))

    def _call(self, verb: Verb, key: str, apply: Callable[[], T]) -> T:
        bucket, process, dice = self._bucket, self._process, self._bucket.dice
        weather, scheduler = bucket.weather, process.scheduler
        ordinal = self.calls
        self.calls += 1
        blow = bucket.strikes.get((process.name, ordinal)) or self._blow(verb, key)
        if blow == "killed before":
            self._told(verb, key, blow)
            scheduler.die()
        if blow == "frozen":
            process.frozen_until = scheduler.now + weather.slow_seconds
        try:
            process.sleep(self._seconds())
        except Killed:
            # What was sent before the death may arrive after it.
            if verb in _WRITES and dice.random() < 0.5:
                scheduler.at(
                    scheduler.now + self._seconds(), lambda: self._arrive(verb, key, apply)
                )
            raise
        assert process.alive, "a dead process called the store"
        if blow in (Effect.REFUSED, Effect.TORN) or weather.away(scheduler.now):
            self._told(verb, key, "refused")
            raise StoreUnavailable(f"injected: {verb} refused", where=key)
        if blow == "late":
            arrives = scheduler.now + dice.random() * weather.slow_seconds
            scheduler.at(arrives, lambda: self._arrive(verb, key, apply))
            raise StoreUnavailable(f"injected: {verb} timed out", where=key)
        answer = apply()
        if verb == "list" and self._unlucky(weather.stale):
            answer = self._lagging(answer)
        self._told(verb, key, "lost" if blow is Effect.LOST else answer)
        if blow == "killed after":
            scheduler.die()
        process.sleep(self._seconds())
        if blow is Effect.LOST:
            raise StoreUnavailable(f"injected: answer to {verb} lost", where=key)
        return answer

    def _arrive(self, verb: Verb, key: str, apply: Callable[[], object]) -> None:
        self._told(verb, key, f"arrives late: {apply()}")

    def _unlucky(self, share: float) -> bool:
        bucket = self._bucket
        calm = self._process.scheduler.now >= bucket.weather.clears_at
        return share > 0 and not calm and bucket.dice.random() < share

    def _blow(self, verb: Verb, key: str) -> Blow | None:
        bucket, weather = self._bucket, self._bucket.weather
        if verb in _WRITES:
            kind = kind_of(key)
            bucket.writes[kind] += 1
            if aimed := bucket.aims.get((kind, bucket.writes[kind])):
                return aimed
            if self._unlucky(weather.late):
                return "late"
        return self._bucket.dice.choice(_FAILURES) if self._unlucky(weather.faults) else None

    def _seconds(self) -> float:
        weather, dice = self._bucket.weather, self._bucket.dice
        longest = weather.slow_seconds if self._unlucky(weather.slow) else weather.latency
        return dice.random() * longest

    def _lagging(self, answer: T) -> T:
        assert isinstance(answer, list)
        seconds = self._bucket.dice.random() * self._bucket.weather.stale_seconds
        since = self._process.scheduler.now - seconds
        unseen = {key for made_at, key in self._bucket.made if made_at > since}
        return [key for key in answer if key not in unseen]  # type: ignore[return-value]

    def _told(self, verb: Verb, key: str, outcome: object) -> None:
        if self._bucket.trace is not None:
            said = f"{len(outcome)} keys" if isinstance(outcome, list) else outcome
            said = f"{len(said)} bytes" if isinstance(said, bytes) else said
            now = self._process.scheduler.now
            self._bucket.trace(now, self._process.name, verb, key, str(said))
