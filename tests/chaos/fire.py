"""One run under fire: a supervisor that is started again and again, and its schedule of blows."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.chaos.battle import Battle, Struck
from tests.chaos.processes import RunProcess, owner_of_port, processes_of, send
from tests.chaos.proxy import Trap, UnrulyProxy
from tests.chaos.schedule import Blow, Moment, RunPlan
from tests.e2e.house import ROOT

_POLL_SECONDS = 0.05
_RUN_SECONDS = 900.0
_LAST_WORKERS_SECONDS = 60.0
_PUT_AT: dict[Moment, str] = {
    "claim": "/leases/",
    "beat": "/sessions/",
    "checkpoint": "/checkpoints/",
    "publish": "/data/",
}


class RunUnderFire:
    """`fight` may be called once. `environment` leads the run to `proxy`."""

    def __init__(
        self, plan: RunPlan, job: str, proxy: UnrulyProxy, environment: Mapping[str, str], log: Path
    ) -> None:
        self._plan = plan
        self._proxy = proxy
        self._command = [sys.executable, "-m", "pipeline.cli", "run", job, "--no-prefect"]
        self._command += ["--run-id", plan.run_id]
        self._environment = {**os.environ, **environment}
        self._log = log.open("ab")
        self._random = random.Random(plan.run_id)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0
        self._fair_at = 0.0
        self._thaw_at: dict[RunProcess, float] = {}
        self._drained: dict[RunProcess, float] = {}
        self.battle = Battle()

    def fight(self) -> Battle:
        began = time.monotonic()
        try:
            for blow in self._plan.blows:
                if self._wait(lambda: False, blow.pause_seconds):
                    break
                self._strike(blow)
            self._wait(lambda: False, _RUN_SECONDS - (time.monotonic() - began))
            self.battle.seconds = time.monotonic() - began
            self._clear_weather()
            self._let_workers_end()
        finally:
            self._end_all()
        return self.battle

    # Time passes.

    def _wait(self, what: Callable[[], bool], seconds: float) -> bool:
        """Look after the run until `what`, for so long at most; True when the run is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._look_after()
            if self.battle.complete:
                return True
            if what():
                return False
            time.sleep(_POLL_SECONDS)
        return False

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._fair_at and now >= self._fair_at:
            self._clear_weather()
        for process in [process for process, due in self._thaw_at.items() if now >= due]:
            del self._thaw_at[process]
            send(process, signal.SIGCONT, self._plan.run_id)
        if self._supervisor is not None and self._supervisor.poll() is not None:
            self.battle.supervisor_ends.append(self._supervisor.returncode)
            self._supervisor, self._start_at = None, max(now, self._start_at)
        if self._supervisor is None and not self.battle.complete and now >= self._start_at:
            self._supervisor = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        found = self._processes()
        for process, due in list(self._drained.items()):
            if process.pid not in found or now >= due:
                del self._drained[process]
            if process.pid in found and now >= due:
                self.battle.late_drains.append(str(process))

    def _processes(self) -> dict[int, RunProcess]:
        found = processes_of(self._plan.run_id)
        self.battle.seen.update(found)
        return found

    def _workers(self) -> list[RunProcess]:
        frozen = {process.pid for process in self._thaw_at}
        return [p for p in self._processes().values() if p.is_worker and p.pid not in frozen]

    def _clear_weather(self) -> None:
        self._fair_at = 0.0
        self._proxy.set_weather("fair")

    def _let_workers_end(self) -> None:
        """A run is complete before its last workers know: they are to find out and leave."""
        for process in self._thaw_at:
            send(process, signal.SIGCONT, self._plan.run_id)
        deadline = time.monotonic() + _LAST_WORKERS_SECONDS
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self.battle.left_behind = sorted(left)

    def _end_all(self) -> None:
        self._proxy.remove_traps()
        self._clear_weather()
        while left := processes_of(self._plan.run_id):
            for process in left.values():
                send(process, signal.SIGKILL, self._plan.run_id)
            if self._supervisor is not None:
                self._supervisor.poll()
            time.sleep(_POLL_SECONDS)
        if self._supervisor is not None:
            self._supervisor.wait()
        self._log.close()

    # Blows.

    def _strike(self, blow: Blow) -> None:
        match blow.kind:
            case "kill worker":
                self._kill_a_worker(blow)
            case "kill supervisor":
                self._kill_the_supervisor(blow)
            case "kill workers":
                self._kill_them(self._workers(), "all workers at once")
            case "kill all":
                self._start_at = time.monotonic() + blow.seconds
                self._kill_them(list(self._processes().values()), "everything at once")
            case "freeze":
                self._freeze_a_worker(blow)
            case "drain":
                if (process := self._any_worker()) and self._hit(process, signal.SIGTERM, "work"):
                    due = self._plan.drain_seconds
                    self._drained[process] = math.inf if due is None else time.monotonic() + due
            case "drain all":
                for process in self._processes().values():
                    if not process.is_worker:
                        self._hit(process, signal.SIGTERM, "work")
            case "weather":
                self._fair_at = time.monotonic() + blow.seconds
                self._proxy.set_weather(blow.weather)

    def _kill_a_worker(self, blow: Blow) -> None:
        if blow.moment in ("boot", "load"):
            # There is a boot to hit when somebody has to be replaced.
            before = set(self._processes())
            if (process := self._any_worker()) is not None:
                self._hit(process, signal.SIGKILL, "work")
        if blow.moment == "boot":
            self._wait(lambda: bool(self._born_since(before)), self._plan.patience_seconds)
            self._pause(blow.seconds)
            for process in self._born_since(before)[:1]:
                self._hit(process, signal.SIGKILL, "boot")
        elif blow.moment == "drain":
            if (process := self._any_worker()) and self._hit(process, signal.SIGTERM, "work"):
                self._pause(blow.seconds)
                self._hit(process, signal.SIGKILL, "drain")
        elif blow.moment == "work":
            if (process := self._any_worker()) is not None:
                self._hit(process, signal.SIGKILL, "work")
        else:
            self._kill_at_request(blow)

    def _kill_at_request(self, blow: Blow) -> None:
        hit = self._hit_at_request(blow, signal.SIGKILL, hold_seconds=None)
        # Nothing of the kind was sent: a store that is away, or no shard near its end.
        if hit is None and not self.battle.complete and (process := self._any_worker()):
            self._hit(process, signal.SIGKILL, "work")

    def _freeze_a_worker(self, blow: Blow) -> None:
        """A zombie; where it froze at a request, that reaches the store, or it the answer, late."""
        process: RunProcess | None = None
        if blow.moment != "work":
            process = self._hit_at_request(blow, signal.SIGSTOP, hold_seconds=blow.seconds)
        elif (process := self._any_worker()) and not self._hit(process, signal.SIGSTOP, "work"):
            process = None
        if process is not None:
            self._thaw_at[process] = time.monotonic() + blow.seconds

    def _hit_at_request(
        self, blow: Blow, number: signal.Signals, hold_seconds: float | None
    ) -> RunProcess | None:
        side = "made" if blow.side == "after" else "not yet made"
        hit: list[RunProcess] = []

        def spring(port: int) -> None:
            processes = self._processes()
            pid = owner_of_port(port, processes)
            if pid is not None and self._hit(processes[pid], number, f"{blow.moment}, {side}"):
                hit.append(processes[pid])

        trap = Trap(self._wanted_at(blow.moment), blow.side, spring, hold_seconds)
        self._proxy.add_trap(trap)
        self._wait(trap.sprung.is_set, self._plan.patience_seconds)
        self._proxy.remove_trap(trap)
        return hit[0] if hit else None

    def _wanted_at(self, moment: Moment) -> Callable[[str], bool]:
        if moment == "finish":
            return lambda path: path.endswith(f"/{self._plan.run_id}/manifest.json")
        if moment == "load":
            # A worker's first beat comes before its engine.
            known = frozenset(self._proxy.paths_put)
            return lambda path: "/sessions/" in path and path not in known
        return lambda path: _PUT_AT[moment] in path

    def _kill_the_supervisor(self, blow: Blow) -> None:
        if blow.moment == "finish":
            # In force beside the blows that follow, until the run is about to complete.
            def spring(port: int) -> None:
                for process in self._processes().values():
                    if not process.is_worker:
                        self._hit(process, signal.SIGKILL, "finish")

            self._proxy.add_trap(Trap(self._wanted_at("finish"), blow.side, spring))
            return
        self._kill_them([p for p in self._processes().values() if not p.is_worker], "work")
        if blow.moment == "start":
            self._wait(lambda: self._supervisor is not None, self._plan.patience_seconds)
            self._pause(blow.seconds)
            self._kill_them([p for p in self._processes().values() if not p.is_worker], "start")

    def _kill_them(self, processes: list[RunProcess], moment: str) -> None:
        for process in processes:
            self._hit(process, signal.SIGKILL, moment)

    def _hit(self, process: RunProcess, number: signal.Signals, moment: str) -> bool:
        if not send(process, number, self._plan.run_id):
            return False
        who = "worker" if process.is_worker else "supervisor"
        self.battle.struck.append(Struck(who, number.name, moment, process.pid, process.worker_id))
        return True

    def _any_worker(self) -> RunProcess | None:
        self._wait(lambda: bool(self._workers()), self._plan.patience_seconds)
        workers = sorted(self._workers(), key=lambda process: process.pid)
        return self._random.choice(workers) if workers else None

    def _born_since(self, before: set[int]) -> list[RunProcess]:
        return [process for process in self._workers() if process.pid not in before]

    def _pause(self, seconds: float) -> None:
        self._wait(lambda: False, seconds)
