"""One tree of errors: the type tells the caller what to do next, the message tells the reader."""

from __future__ import annotations

import re
from typing import ClassVar


class SpotmillError(Exception):
    """Something spotmill can explain: what happened, where, why, and what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.why:
            parts.append(f"why: {self.why}")
        if self.hint:
            parts.append(f"what to do: {self.hint}")
        return "\n  ".join(parts)


def in_a_line(problem: Exception) -> str:
    """An error's whole explanation as one line, to be one sentence among others."""
    return "; ".join(line.strip() for line in str(problem).splitlines())


def without_secrets(words: str) -> str:
    """Words for a log or a person, where URLs may be among them: without users, passwords and
    queries, whoever put them there."""
    words = re.sub(r"://[^\s'\"]*@", "://", words)
    return re.sub(r"(/[^\s'\"?#]*)[?#][^\s'\")>]+", r"\1?...", words)


class JobInvalid(SpotmillError):
    """The job file, or a command line, asks for something that makes no sense: mend it."""

    exit_code = 2


class RunConflict(SpotmillError):
    """The output already holds a run of this name made by another job: choose another name."""

    exit_code = 2


class RunMissing(SpotmillError):
    """No such run under this output: plan it first, or correct the name."""

    exit_code = 2


class EngineRefused(SpotmillError):
    """The engine at hand cannot do soundly what the job asks; said before a model is loaded."""

    exit_code = 2


class InputInvalid(SpotmillError):
    """The dataset cannot be read as the job describes it: stop before money is spent."""


class InputChanged(SpotmillError):
    """An input file is not the one that was planned: stop the run."""


class ObjectDamaged(SpotmillError):
    """An object of the run is not what spotmill writes there: nobody can go on from it."""


class StoreUnavailable(SpotmillError):
    """The object store did not answer in a usable way; the same call may work later."""


class PoolUnavailable(SpotmillError):
    """Where workers are started did not answer; the same call may work later."""


class StoreDenied(SpotmillError):
    """The object store said no (credentials, permission, no such bucket): don't try again."""


class LeaseLost(SpotmillError):
    """Another worker owns this shard by now: drop it, what was written is harmless."""


class RowRejected(SpotmillError):
    """This row cannot be answered; its neighbours can. Written as the row's `error`."""


class EngineFailed(SpotmillError):
    """The engine could not start; carries the engine's own words."""


class EngineDied(SpotmillError):
    """An engine that worked stopped working: this worker ends, another may do better."""


class WorkersFailed(SpotmillError):
    """Workers keep ending without progress: stop the run rather than start them for ever."""


class BooksUnbalanced(SpotmillError):
    """Counts or money do not add up, so the run is not called complete."""


class BudgetReached(SpotmillError):
    """The run's budget is spent: the run stops clean and can be resumed with a larger one."""

    exit_code = 4


class CostRefused(SpotmillError):
    """A run would cost more than was allowed, or nobody can tell: allow more, or ask for less."""

    exit_code = 4


class Interrupted(SpotmillError):
    """Asked to stop with work left over; everything finished is saved and `resume` goes on."""

    exit_code = 75
