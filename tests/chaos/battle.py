"""What befell one run, as it was seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.processes import RunProcess

_OVER = (0, 3)
"""Exit codes of a supervisor whose run is complete."""


@dataclass(frozen=True, slots=True)
class Struck:
    """One process that was really hit. `moment` is when it truly was, as far as can be seen."""

    who: str
    how: str
    moment: str
    pid: int
    worker_id: str | None


@dataclass(slots=True)
class Battle:
    """What befell a run, until it was complete or given up."""

    struck: list[Struck] = field(default_factory=list)
    seen: dict[int, RunProcess] = field(default_factory=dict)
    supervisor_ends: list[int] = field(default_factory=list)
    left_behind: list[int] = field(default_factory=list)
    late_drains: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return bool(self.supervisor_ends) and self.supervisor_ends[-1] in _OVER

    @property
    def kills(self) -> list[Struck]:
        return [one for one in self.struck if one.how == "SIGKILL"]
