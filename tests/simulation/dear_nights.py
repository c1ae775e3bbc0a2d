"""Nights in which a token costs more than it did, for a reason that was planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.core.cost_watch import PREFILL_SHARE
from pipeline.core.money import Node, NodePrice
from pipeline.core.ports import Engine, PriceQuotes
from pipeline.core.rows import Completion, EngineMetrics, Request
from pipeline.core.usage import Usage, usage_of_run
from pipeline.cost_past import CostPast
from pipeline.cost_watching import CostWatch, Window
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.supervisor import Told
from tests.simulation.invariants import broken
from tests.simulation.markets import Drift
from tests.simulation.memory_rows import Row
from tests.simulation.night import EXACT, Event, Night, Pace
from tests.simulation.process import Process
from tests.simulation.sim_pool import Hearing
from tests.simulation.universe import ENGINE, Universe

PACE = Pace(workers=2, window=4, chunk_rows=8, lease_seconds=16, load_seconds=6, tick_seconds=2)
WINDOW = Window(seconds=40.0, tokens=60, in_a_row=2)
_DRAFTS = 4


@dataclass(frozen=True, slots=True)
class Plant:
    """What a night is like; the default is a normal one. It is `slow` from second `slow_from` on,
    and one worker is killed every `kill_every` seconds."""

    usd_per_hour: str = "2.00"
    zone: str = "us-east-1a"
    tokens_per_step: float = 2.5
    prompt: str = ""
    slow: float = 1.0
    slow_from: float = 0.0
    kill_every: float | None = None


class PlantedEngine(ScriptedEngine):
    """Takes time for prompts too, and speculates: its drafts give `tokens_per_step`."""

    def __init__(self, settings: ScriptedSettings, process: Process, plant: Plant) -> None:
        super().__init__(settings, self._pass, True, process.scheduler.die)
        self._process = process
        self._plant = plant
        self._prefill = 0
        self._decoded = 0

    def submit(self, request: Request) -> None:
        super().submit(request)
        self._prefill += len(request.prompt_token_ids)

    def step(self) -> Sequence[Completion]:
        self._decoded += len(self.in_flight())
        return super().step()

    def metrics(self) -> EngineMetrics:
        steps = self._decoded / self._plant.tokens_per_step
        return EngineMetrics(
            draft_proposed=round(_DRAFTS * steps), draft_accepted=round(self._decoded - steps)
        )

    def _pass(self, seconds: float) -> None:
        late = self._process.scheduler.now >= self._plant.slow_from
        factor = self._plant.slow if late else 1.0
        a_step = seconds / self._plant.tokens_per_step
        prefill, self._prefill = self._prefill, 0
        self._process.sleep(
            factor * (a_step + seconds * PREFILL_SHARE * prefill / self.window / 2.5)
        )


class Announced(NamedTuple):
    """What was told, so many seconds `after` the run began."""

    name: str
    sentence: str
    figures: Mapping[str, Any]
    after: float


@dataclass(slots=True)
class DearUniverse(Universe):
    """`announced` is what is told of its money; `past` are earlier runs."""

    plant: Plant = Plant()
    past: Sequence[Usage] = ()
    announced: list[Announced] = field(default_factory=list)

    def told_by(self, supervisor: Process) -> Told:
        began = supervisor.now()

        def hear(name: str, sentence: str, figures: Mapping[str, Any]) -> None:
            after = supervisor.now() - began
            self.announced.append(Announced(name, sentence, figures, after))

        watch = CostWatch(CostPast(self.past), hear, WINDOW, PACE.workers)
        return lambda sessions, _: watch.look(sessions.values(), supervisor.now())

    def node_of(self, worker_id: str) -> Node:
        return Node(instance_id=worker_id, zone=self.plant.zone)

    def quotes_of(self, process: Process, first: NodePrice) -> PriceQuotes:
        return Drift(process, first, Decimal(0))

    def price_of(self, worker_id: str) -> NodePrice:
        return NodePrice(Decimal(self.plant.usd_per_hour), "made up", Decimal(9))

    def _engine_loader(self, process: Process) -> Callable[[bool], Engine]:
        pace = self.night.pace
        settings = ScriptedSettings(
            pace.window, ENGINE.max_model_len, ENGINE.tokens, pace.step_seconds
        )

        def load(_own_process: bool) -> Engine:
            process.sleep(pace.load_seconds)
            return PlantedEngine(settings, process, self.plant)

        return load


def dear_night(plant: Plant, seed: int, rows: int = 160) -> Night:
    shards = {
        shard: tuple(Row(f"{plant.prompt}{seed}/{shard}/{n}", EXACT) for n in range(rows))
        for shard in range(4)
    }
    kills = (
        tuple(Event(at, "kill") for at in _every(plant.kill_every, 1_200.0))
        if plant.kill_every
        else ()
    )
    return Night(seed=seed, kind="wild", rows=shards, pace=PACE, hearing=Hearing(1.0), events=kills)


def _every(seconds: float, until: float) -> list[float]:
    return [seconds * n for n in range(1, int(until / seconds) + 1)]


def live(plant: Plant, past: Sequence[Usage] = (), seed: int = 1) -> tuple[Usage, list[Announced]]:
    """What the night used, and what was told of it. Its tokens are not counted beside the books."""
    universe = DearUniverse(dear_night(plant, seed), plant=plant, past=past)
    try:
        universe.run()
        # Nobody tallied the engine's tokens here, which the books are compared with elsewhere.
        wrong = [line for line in broken(universe) if "decoded" not in line]
        assert not wrong, wrong
    finally:
        universe.abandon()
    return usage_of_run(universe.manifests[0]), universe.announced
