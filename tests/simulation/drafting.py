"""A scripted engine that speculates: as fast as it is told for each depth, in anybody's seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.core.rows import Completion, EngineMetrics
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings

Spoil = Callable[[Completion], Completion]


class DraftingEngine(ScriptedEngine):
    """Implements `Engine` and `Speculating`. A step at a depth takes `step_seconds` divided by the
    depth's speed; `spoil` changes answers that were made with drafts."""

    def __init__(
        self,
        settings: ScriptedSettings,
        sleep: Callable[[float], None],
        speeds: Mapping[int, float],
        spoil: Spoil = lambda answer: answer,
        taken: float = 0.1,
    ) -> None:
        super().__init__(settings, lambda seconds: sleep(seconds / self.speed))
        self.speeds = dict(speeds)
        self.depth = max(speeds)
        self.told: list[int] = []
        self.taken = taken
        self._spoil = spoil
        self._proposed = 0

    @property
    def speed(self) -> float:
        return self.speeds[self.depth]

    @property
    def draft_depth(self) -> int:
        return max(self.speeds)

    def speculate(self, depth: int) -> None:
        self.told.append(depth)
        self.depth = depth

    def forget_prefixes(self) -> None:
        assert not self.in_flight()

    def step(self) -> Sequence[Completion]:
        self._proposed += self.depth * len(self.in_flight())
        done = super().step()
        return [self._spoil(one) for one in done] if self.depth else done

    def metrics(self) -> EngineMetrics:
        return EngineMetrics(
            draft_proposed=self._proposed, draft_accepted=int(self._proposed * self.taken)
        )
