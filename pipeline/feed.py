"""Keeps the engine's window full across chunk and shard boundaries (DESIGN §5)."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.errors import RowRejected
from pipeline.core.ports import Clock, Engine
from pipeline.core.rows import FinishedRow, Request
from pipeline.errands import Errands
from pipeline.held import HeldShard, Prepared
from pipeline.timesheet import Timesheet


class Feed:
    """The shards in hand and the engine that answers them. One thread calls it."""

    def __init__(self, engine: Engine, errands: Errands, clock: Clock, sheet: Timesheet) -> None:
        self.held: dict[int, HeldShard] = {}
        self.rows = 0
        self._engine = engine
        self._errands = errands
        self._clock = clock
        self._sheet = sheet

    @property
    def hungry(self) -> bool:
        """Whether the rows in hand will soon not fill the engine."""
        return sum(shard.to_submit for shard in self.held.values()) < self._engine.window

    @property
    def running(self) -> int:
        return sum(len(shard.running) for shard in self.held.values())

    def top_up(self) -> None:
        """Prepare rows before they are due, and submit prepared ones while there is room."""
        for shard in self.held.values():
            if shard.unprepared and not shard.preparing and len(shard.ready) < self._engine.window:
                self._prepare(shard)
        room = self._engine.window - self.running
        for shard in self.held.values():
            while room > 0 and shard.ready:
                row, work = shard.ready.popleft()
                room -= self._submit(shard, row, work)

    def step(self) -> None:
        """One iteration of the engine, its time counted as useful."""
        completions = self._engine.step()
        self._sheet.pass_to(self._clock.now(), "useful")
        for completion in completions:
            shard_id, _, row = (int(part) for part in completion.request_id.split("-"))
            self.held[shard_id].completed(row, completion)
            self.rows += 1

    def settle(self) -> tuple[dict[int, int], Mapping[str, tuple[int, ...]]]:
        """Share the time since the last settling out; tokens decoded by shard, and in flight."""
        tokens = self._engine.in_flight()
        return self._sheet.settle(self.held, tokens, self._engine.metrics()), tokens

    def drop(self, shard: HeldShard) -> None:
        """Forget a shard that is somebody else's by now; what it cost here was wasted.

        Two errands may find that out, one after the other: the second has nothing left to do.
        """
        if self.held.get(shard.shard.id) is not shard:
            return
        self.settle()
        self._sheet.write_off(shard.buckets.useful)
        self.abort(shard)
        del self.held[shard.shard.id]

    def abort(self, shard: HeldShard) -> None:
        self._engine.abort([request.id for request in shard.running.values()])

    def _prepare(self, shard: HeldShard) -> None:
        count = min(self._engine.window, len(shard.unprepared))
        rows = [shard.unprepared.popleft() for _ in range(count)]
        shard.preparing = count

        def prepared(batch: list[tuple[int, Prepared]]) -> None:
            shard.preparing = 0
            shard.ready.extend(batch)

        def failed(problem: Exception) -> None:
            raise problem

        encode = self._engine.encode
        self._errands.send(lambda: shard.prepare_batch(rows, encode), prepared, failed)

    def _submit(self, shard: HeldShard, row: int, work: Prepared) -> int:
        if isinstance(work, Request):
            try:
                self._engine.submit(work)
            except RowRejected as problem:
                work = FinishedRow(row, error=str(problem))
            else:
                shard.running[row] = work
                return 1
        shard.done(work)
        self.rows += 1
        return 0
