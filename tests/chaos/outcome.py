"""One part of the campaign, fought and reckoned: what the report is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.battle import Battle
from tests.chaos.reckoning import Books, Rows, WorkerCount
from tests.chaos.schedule import RunPlan


@dataclass(slots=True)
class Outcome:
    """`faults` are sentences; a run without any is as it should be. `claimed_again` counts claims
    of shards that somebody had held before."""

    name: str
    seconds: float
    kills: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    rows: Rows | None = None
    books: Books | None = None
    claimed_again: int | None = None
    worst_kill_tokens: int | None = None
    interval_tokens: float | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return sum(self.kills.values())

    @property
    def worst_kill_intervals(self) -> float | None:
        if self.worst_kill_tokens is None or not self.interval_tokens:
            return None
        return self.worst_kill_tokens / self.interval_tokens


def outcome_of(plan: RunPlan, battle: Battle) -> Outcome:
    """What befell the run, and whether it and its processes came to their end."""
    found = Outcome(plan.run_id, battle.seconds)
    found.kills.update(f"{one.who}: {one.moment}" for one in battle.kills)
    others = (one for one in battle.struck if one.how != "SIGKILL")
    found.blows.update(f"{one.how}: {one.who}, {one.moment}" for one in others)
    found.blows.update(f"store: {b.weather}" for b in plan.blows if b.kind == "weather")
    ends = Counter(battle.supervisor_ends[:-1])
    found.notes += [f"{n} supervisors ended with {end}" for end, n in sorted(ends.items())]
    if not battle.complete:
        found.faults.append(f"not complete after {battle.seconds:.0f} s")
    found.faults += [f"not drained in time: {late}" for late in battle.late_drains]
    if battle.left_behind:
        found.faults.append(f"processes {battle.left_behind} outlived the run")
    return found


def judge(plan: RunPlan, battle: Battle, rows: Rows, books: Books, found: Outcome) -> None:
    """Add rows, books and what is wrong with them to an outcome."""
    found.rows, found.books = rows, books
    if not rows.sound:
        found.faults.append(f"rows: {rows}")
    found.faults += books.wrong
    killed = len({one.worker_id for one in battle.kills})
    most = killed * plan.interval_tokens * (1 + _slack_seconds(plan) / plan.chunk_seconds)
    if books.unrecorded > most:
        found.faults.append(
            f"{books.unrecorded} tokens unrecorded by {killed} killed: > {most:.0f}"
        )
    if plan.exact and not plan.away_seconds:
        losses = [worker.decoded - worker.saved for worker in _plainly_killed(battle, books)]
        found.worst_kill_tokens = max(losses, default=0)
        found.interval_tokens = plan.interval_tokens


def _slack_seconds(plan: RunPlan) -> float:
    """Beyond the interval: a checkpoint on its way, and a store that is away and then asked again
    after up to ten seconds (stores/retry.py)."""
    return 1.0 + (plan.away_seconds + 10.0 if plan.away_seconds else 0.0)


def _plainly_killed(battle: Battle, books: Books) -> list[WorkerCount]:
    """Killed at work, and not a zombie before, whose tokens were lost with its shards."""
    killed = {one.worker_id for one in battle.kills}
    frozen = {one.worker_id for one in battle.struck if one.how == "SIGSTOP"}
    return [w for w in books.workers if w.worker_id in killed - frozen and not w.over]
