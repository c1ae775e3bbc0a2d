"""Keeps the engine's window full across chunk and shard boundaries (DESIGN §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.arranging import arranged
from pipeline.core.errors import RowRejected
from pipeline.core.money import MICROS_PER_SECOND, NodePrice
from pipeline.core.order import Arrangement
from pipeline.core.poison import next_trial
from pipeline.core.portion import AttemptName, rows_to_spare
from pipeline.core.ports import Clock, Engine
from pipeline.core.rows import FinishedRow, Request
from pipeline.core.session import ShardAccount
from pipeline.core.spans import Span
from pipeline.errands import Errands
from pipeline.held import HeldShard
from pipeline.preparing import Line, Prepared
from pipeline.timesheet import Timesheet

_FIRST_ROWS = 32
_LEAD_SECONDS = 5.0


class Feed:
    """The shards in hand and the engine that answers them. One thread calls it."""

    def __init__(self, engine: Engine, errands: Errands, clock: Clock, sheet: Timesheet) -> None:
        self.held: dict[AttemptName, HeldShard] = {}
        self.dropped: dict[int, ShardAccount] = {}
        self.portions: dict[AttemptName, ShardAccount] = {}
        self.rows = 0
        self.prompt_tokens = 0
        self._engine = engine
        self._errands = errands
        self._clock = clock
        self._sheet = sheet
        self._in_trial = False

    @property
    def engine(self) -> Engine:
        """The one that answers now."""
        return self._engine

    @property
    def hungry(self) -> bool:
        """Whether the rows in hand will soon not fill the engine.

        The next shard takes seconds to be claimed, read and arranged, and short answers are quick.
        """
        seconds = self._sheet.buckets.useful / MICROS_PER_SECOND
        meanwhile = _LEAD_SECONDS * self.rows / seconds if seconds else 0.0
        left = sum(shard.to_submit for shard in self.held.values())
        return left < self._engine.window + meanwhile

    @property
    def price(self) -> NodePrice:
        """What an hour of this worker costs now."""
        return self._sheet.price

    @property
    def lived(self) -> tuple[Span, ...]:
        """All of this worker's seconds so far, of which those shared out are a part."""
        return self._sheet.spans

    @property
    def window(self) -> int:
        """Rows that the engine takes at once."""
        return self._engine.window

    @property
    def running(self) -> int:
        return sum(len(shard.running) for shard in self.held.values())

    def top_up(self) -> None:
        """Prepare rows before they are due, and submit prepared ones while there is room.

        Rows suspected of killing engines come first, and then nothing runs beside them.
        """
        for shard in self.held.values():
            if (
                shard.unarranged
                and not shard.arranging
                and len(shard.unprepared) < self._engine.window
            ):
                self._arrange_next(shard)
            if shard.unprepared and not shard.preparing and len(shard.ready) < self._engine.window:
                self._prepare_next(shard)
        running = self.running
        self._in_trial = self._in_trial and running > 0
        if not running:
            self.rows += sum(shard.quarantine() for shard in self.held.values() if shard.strikes)
        suspected = next((shard for shard in self.held.values() if shard.suspects), None)
        if suspected is not None:
            if not running:
                self._try_suspects(suspected)
        elif not self._in_trial:
            self._admit(self._engine.window - running)

    def step(self) -> None:
        """One iteration of the engine, its time counted as useful. Raises `EngineDied`."""
        completions = self._engine.step()
        self._sheet.pass_to(self._clock.now(), "useful")
        for completion in completions:
            *name, row = map(int, completion.request_id.split("-"))
            self.rows += self.held[AttemptName(*name)].completed(row, completion)

    def lose_engine(self, words: str) -> None:
        """The engine died, saying `words`: what ran in it is taken back, and suspected."""
        self._sheet.pass_to(self._clock.now(), "wasted")
        running = self.running
        for shard, rows in self._take_back():
            shard.strike(rows, running - len(rows), words)

    def leave_engine(self) -> None:
        """The engine is going to be replaced: what runs in it is taken back."""
        for shard, rows in self._take_back():
            shard.put_in_line(rows)

    def take_engine(self, engine: Engine) -> None:
        self._engine = engine
        self._sheet.engine_replaced()

    def accounts(self, decoded: Mapping[AttemptName, int]) -> dict[AttemptName, ShardAccount]:
        """What is known now of all that is held, by what was decoded for it."""
        window = self._engine.window
        return {
            name: shard.account(decoded[name], rows_to_spare(shard.unbegun, window))
            for name, shard in self.held.items()
        }

    def settle(self) -> tuple[dict[AttemptName, int], Mapping[str, Sequence[int]]]:
        """Share the time since the last settling out; tokens decoded by attempt, and in flight.
        With nothing in hand, no engine is asked."""
        if not self.held:
            return {}, {}
        tokens = self._engine.in_flight()
        return self._sheet.settle(self.held, tokens, self._engine.metrics()), tokens

    def reprice(self, price: NodePrice) -> bool:
        """From now on this worker's seconds have another price. False when it has to be tried again
        after the next step, since there are seconds that nobody can be charged with yet."""
        self.settle()
        if not self._sheet.all_shared:
            return False
        before = self._sheet.price
        # First what is over, then what goes on, then the price: should something be raised in
        # between, what was before it has the price that it had.
        self.dropped = {shard: one.repriced(before) for shard, one in self.dropped.items()}
        self.portions = {name: one.repriced(before) for name, one in self.portions.items()}
        self._sheet.reprice(price, self.held.values())
        return True

    def drop(self, shard: HeldShard) -> None:
        """Forget a shard that is somebody else's by now; what it cost here was wasted.

        Two errands may find that out, one after the other: the second has nothing left to do.
        """
        if self.held.get(shard.name) is not shard:
            return
        if shard.portion is not None and shard.complete:
            # Its last save may have counted, though the answer is not here. If it did not, the
            # seconds are in no shard's bill, and the run's calls them wasted.
            self.hand_over(shard)
            return
        decoded, _ = self.settle()
        account = shard.account(decoded[shard.name])
        if shard.portion is None:
            self.dropped[shard.shard.id] = account
        else:
            self.portions[shard.name] = account
        self._sheet.write_off(shard)
        self._abort(shard)
        del self.held[shard.name]

    def hand_over(self, portion: HeldShard) -> None:
        """Forget a portion that is finished and saved; whoever publishes it is charged with it."""
        if self.held.get(portion.name) is portion:
            decoded, _ = self.settle()
            self.portions[portion.name] = portion.account(decoded[portion.name])
            del self.held[portion.name]

    def let_go(self, shard: HeldShard, tokens: Mapping[str, Sequence[int]]) -> None:
        """Generate no more for a shard; what was decoded for it, by the newest `tokens` in flight,
        stays counted."""
        self._abort(shard)
        shard.take_back(tokens)

    def _abort(self, shard: HeldShard) -> None:
        self._engine.abort([request.id for request in shard.running.values()])

    def _take_back(self) -> list[tuple[HeldShard, list[int]]]:
        _, tokens = self.settle()
        self._in_trial = False
        return [(shard, shard.take_back(tokens)) for shard in self.held.values()]

    def _try_suspects(self, shard: HeldShard) -> None:
        if shard.on_trial:
            self._in_trial = True
            while shard.on_trial:
                row, work = shard.on_trial.pop()
                shard.suspects.discard(row)
                self._submit(shard, row, work)
        elif not shard.preparing:
            rows = next_trial(shard.suspects, shard.strikes)
            self._prepare(shard, rows, shard.on_trial)

    def _admit(self, room: int) -> None:
        for shard in self.held.values():
            while room > 0 and shard.ready:
                row, work = shard.ready.popleft()
                room -= self._submit(shard, row, work)

    def _arrange_next(self, shard: HeldShard) -> None:
        stretch = shard.unarranged.popleft()
        shard.arranging = len(stretch)

        def take(result: Arrangement) -> None:
            self.rows += shard.take_arrangement(result)

        self._errands.send(lambda: arranged(shard, stretch), take, _raise)

    def _prepare_next(self, shard: HeldShard) -> None:
        # Few at first, for an engine that has nothing to do waits for all of them.
        wanted = min(self._engine.window, max(_FIRST_ROWS, self.running))
        count = min(wanted, len(shard.unprepared))
        self._prepare(shard, [shard.unprepared.popleft() for _ in range(count)], shard.ready)

    def _prepare(self, shard: HeldShard, rows: Sequence[int], into: Line) -> None:
        shard.preparing = len(rows)

        def prepared(batch: list[tuple[int, Prepared]]) -> None:
            shard.preparing = 0
            into.extend(batch)

        encode = self._engine.encode
        self._errands.send(lambda: shard.prepare_batch(rows, encode), prepared, _raise)

    def _submit(self, shard: HeldShard, row: int, work: Prepared) -> int:
        if isinstance(work, Request):
            # In first, so that a row that kills the engine by being submitted is a suspect too.
            shard.running[row] = work
            try:
                self._engine.submit(work)
            except RowRejected as problem:
                del shard.running[row]
                work = FinishedRow(row, error=str(problem))
            else:
                self.prompt_tokens += len(work.prompt_token_ids)
                return 1
        self.rows += shard.done(work)
        return 0


def _raise(problem: Exception) -> None:
    raise problem
