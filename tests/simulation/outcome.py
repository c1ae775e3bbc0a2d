"""What became of the seconds and tokens of a replayed fleet."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from tests.simulation.traces import SpotTrace


@dataclass(frozen=True, slots=True)
class NodeSeconds:
    """Seconds paid for, each in one place.

    `cold`: until the engine was loaded. `decoding`: what the decoded tokens take at the full rate.
    `cut`: the step that a kill broke off. `drain`: from the last step to the worker's own end.
    `after_drain`: from there until the node was taken. `idle`: the engine stood, or ran half empty.
    """

    cold: float = 0.0
    decoding: float = 0.0
    cut: float = 0.0
    drain: float = 0.0
    after_drain: float = 0.0
    idle: float = 0.0

    def __add__(self, other: NodeSeconds) -> NodeSeconds:
        return NodeSeconds(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """`committed_seconds` is what the committed tokens take one node at its full rate."""

    trace: SpotTrace
    notice_seconds: float | None
    cold_seconds: float
    decoded: int
    committed: int
    committed_seconds: float
    seconds: NodeSeconds
    left_by_themselves: int

    @property
    def token_goodput(self) -> float:
        """Committed tokens over all tokens decoded (DESIGN §2)."""
        return self.committed / self.decoded

    @property
    def time_goodput(self) -> float:
        """Committed tokens at the full rate over all seconds paid for."""
        return self.committed_seconds / self.trace.node_seconds

    @property
    def ceiling(self) -> float:
        """Time goodput of the same trace where nothing but the cold starts costs a second."""
        warm = sum(max(0.0, life.seconds - self.cold_seconds) for life in self.trace.lives)
        return warm / self.trace.node_seconds

    def shares(self) -> dict[str, float]:
        """Of the seconds paid for; with the time goodput they make 1."""
        seconds = self.seconds
        spent = {
            "cold start": seconds.cold,
            "lost": seconds.decoding - self.committed_seconds + seconds.cut,
            "idle": seconds.idle,
            "drain": seconds.drain,
            "after drain": seconds.after_drain,
        }
        return {name: spent[name] / self.trace.node_seconds for name in spent}
