"""Virtual time, and strands of work that take turns in it: the same dice give the same order."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from greenlet import getcurrent, greenlet

_GRAINS_A_SECOND = 64
"""Binary fractions that the six digits of a timestamp can hold: no sum is ever rounded."""


class Killed(BaseException):
    """`kill -9`: no `except Exception` of the dead process sees it."""


class NeverEnds(AssertionError):
    """Somebody still runs at a time by which everybody should have been done."""


class Owner(Protocol):
    """Whom strands belong to; `frozen_until` is when it may go on again (SIGSTOP)."""

    alive: bool
    frozen_until: float
    strands: list[Strand]

    def is_over(self) -> None:
        """Told once it was killed."""
        ...


class Strand:
    """One thread of a process. `turn` is the heap entry that may resume it; any other is stale."""

    __slots__ = ("greenlet", "owner", "turn")

    def __init__(self, owner: Owner, body: Callable[[], None], hub: greenlet) -> None:
        self.owner = owner
        self.turn = 0
        self.greenlet = greenlet(lambda: self._live(body), hub)

    def _live(self, body: Callable[[], None]) -> None:
        try:
            body()
        except Killed:
            assert not self.owner.alive, "only the dead are killed"
        finally:
            self.owner.strands.remove(self)


class Scheduler:
    """Resumes what is due next; ties are drawn by lot. To be made and run in one thread."""

    def __init__(self, dice: Random) -> None:
        self.now = 0.0
        self._lot = dice.random
        self._hub = getcurrent()
        self._running: Strand | None = None
        self._heap: list[tuple[float, float, int, Strand | Callable[[], None]]] = []
        self._turns = 0

    def run(self, until: float) -> None:
        """Until nothing is due any more. Raises `NeverEnds`, and what escapes from a strand."""
        heap = self._heap
        while heap:
            when, _, turn, due = heappop(heap)
            if not isinstance(due, Strand):
                self.now = when
                due()
            elif due.turn != turn:
                continue
            elif due.owner.frozen_until > when:
                self._resume_at(due, due.owner.frozen_until)
            else:
                self.now = when
                self._running = due
                due.greenlet.switch()
            if self.now > until:
                raise NeverEnds(f"something still runs after {self.now:.0f} virtual seconds")

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action`, which must not wait, at virtual second `when`, before anybody else."""
        self._turns += 1
        heappush(self._heap, (when, -1.0, self._turns, action))

    def spawn(self, owner: Owner, body: Callable[[], None]) -> None:
        strand = Strand(owner, body, self._hub)
        owner.strands.append(strand)
        self._resume_at(strand, self.now)

    def sleep(self, seconds: float) -> None:
        """Let the others go on; called by a strand, like all that follows. Raises `Killed`."""
        grains = math.ceil(seconds * _GRAINS_A_SECOND)
        self._resume_at(self._of_the_living(), self.now + grains / _GRAINS_A_SECOND)
        self._hub.switch()

    @property
    def running(self) -> Strand:
        assert self._running is not None
        return self._running

    def wake(self, strand: Strand) -> None:
        """Resume a strand that sleeps, now instead of later."""
        if strand.owner.alive:
            self._resume_at(strand, self.now)

    def die(self) -> None:
        """The running strand's process is killed in this moment."""
        owner = self._of_the_living().owner
        self.at(self.now, lambda: self.kill(owner))
        self._hub.switch()

    def kill(self, owner: Owner) -> None:
        """Every strand dies where it stands. For actions, not for strands."""
        owner.alive = False
        for strand in tuple(owner.strands):
            strand.turn = -1
            if strand.greenlet:
                self._running = strand
                strand.greenlet.throw(Killed())
                assert strand.greenlet.dead, "somebody survived kill -9"
            else:
                owner.strands.remove(strand)
        owner.is_over()

    def _of_the_living(self) -> Strand:
        """The running strand, unless it only unwinds: the dead wait for nothing any more."""
        if not self.running.owner.alive:
            raise Killed
        return self.running

    def _resume_at(self, strand: Strand, when: float) -> None:
        self._turns += 1
        strand.turn = self._turns
        heappush(self._heap, (when, self._lot(), self._turns, strand))
