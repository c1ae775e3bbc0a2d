"""One shard in a worker's hands: what is to do, what is in the engine, what is not saved yet."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.core.checkpoint import Attempt, AttemptEnd, Checkpoint, Progress
from pipeline.core.lease import Lease
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.order import Arrangement
from pipeline.core.poison import Strike, condemned, evidence, suspected, verdict
from pipeline.core.portion import AttemptName, Portion, taken_from_end
from pipeline.core.ports import ShardInput
from pipeline.core.rows import (
    Completion,
    FinishedRow,
    FinishedRows,
    Request,
    TokenCounts,
)
from pipeline.core.session import ShardAccount
from pipeline.core.shards import STRETCH_ROWS, Shard
from pipeline.core.spans import Span
from pipeline.lent import Lent
from pipeline.preparing import Encode, Line, Prepared, finished_row, prepare


@dataclass(slots=True)
class HeldShard:
    """State only; the worker moves it, in one thread. With a `portion`, of that alone."""

    shard: Shard
    lease: Lease
    rows: ShardInput
    before: Progress
    saved_at: float
    lent: Lent = field(default_factory=Lent)
    portion: Portion | None = None
    take: int = 0
    finished: FinishedRows = field(init=False)
    so_far: dict[int, tuple[int, ...]] = field(init=False)
    strikes: list[Strike] = field(init=False)
    suspects: set[int] = field(init=False)
    spoken_for: frozenset[int] = field(init=False)
    unarranged: deque[Sequence[int]] = field(init=False)
    unprepared: deque[int] = field(default_factory=deque)
    waiting: dict[int, list[int]] = field(default_factory=dict)
    ready: Line = field(default_factory=deque)
    on_trial: Line = field(default_factory=deque)
    running: dict[int, Request] = field(default_factory=dict)
    put_back: set[int] = field(default_factory=set)
    unsaved: list[FinishedRow] = field(default_factory=list)
    unsaved_strikes: list[Strike] = field(default_factory=list)
    rows_done: int = 0
    decoded_before: int = 0
    tokens: TokenCounts = TokenCounts()
    buckets: Buckets = Buckets()
    earlier: tuple[Span, ...] = ()
    """The part of `buckets` that had other prices than those from now on."""
    struck: int = field(init=False)
    seq: int = 0
    saving: Checkpoint | None = None
    arranging: int = 0
    preparing: int = 0
    store_after: float = 0.0
    publishing: bool = False
    publish_in_doubt: bool = False

    def __post_init__(self) -> None:
        # Not copied, as there may be millions: from here on it is this attempt's.
        self.finished = self.before.finished
        self.so_far = dict(self.before.in_flight)
        self.strikes = list(self.before.strikes)
        own = range(self.rows.rows) if self.portion is None else self.portion.rows
        self.unarranged = deque(
            own[first : first + STRETCH_ROWS] for first in range(0, len(own), STRETCH_ROWS)
        )
        away = self.lent.rows
        suspects = self._unfinished(suspected(self.strikes))
        self.spoken_for = frozenset(suspects | away)
        self.suspects = suspects - away
        self.struck = len(self.strikes)

    @property
    def name(self) -> AttemptName:
        portion = 0 if self.portion is None else self.portion.portion
        return AttemptName(self.shard.id, self.lease.epoch, portion, self.take)

    @property
    def row_count(self) -> int:
        return self.rows.rows if self.portion is None else len(self.portion.rows)

    @property
    def complete(self) -> bool:
        return len(self.finished) == self.row_count

    @property
    def unbegun(self) -> int:
        """Rows that are not on their way to the engine yet, most of which could be withdrawn."""
        if self.portion is not None:
            return 0
        # Of stretches that were not looked at, nobody knows which rows are finished.
        return min(len(self.unprepared) + sum(map(len, self.unarranged)), self._unadmitted)

    @property
    def in_line(self) -> int:
        """Rows that stay with this worker, whoever asks for some, and are not in the engine yet."""
        sent = self.preparing + len(self.ready) + len(self.suspects)
        return sent + min(self.arranging, self._unadmitted - self.unbegun)

    @property
    def _unadmitted(self) -> int:
        sent = len(self.running) + self.preparing + len(self.ready) + len(self.suspects)
        return max(0, self.row_count - len(self.finished) - self.lent.count - sent)

    @property
    def begun(self) -> bool:
        """Whether there is anything that a checkpoint could save."""
        return bool(self.unsaved or self.running or self.put_back or self.unsaved_strikes)

    @property
    def to_submit(self) -> int:
        unarranged = sum(map(len, self.unarranged)) + self.arranging
        return (
            unarranged
            + len(self.unprepared)
            + self.preparing
            + len(self.ready)
            + len(self.suspects)
        )

    def request_id(self, row: int) -> str:
        name = self.name if self.portion is not None else self.name[:2]
        return "-".join(map(str, (*name, row)))

    def take_arrangement(self, arranged: Arrangement) -> int:
        """Put these rows in line; how many were finished, as copies of rows that were done."""
        self.arranging = 0
        self.unprepared.extend(arranged.order)
        self.waiting.update(arranged.waiting)
        done = [row for row in arranged.waiting if row in self.finished]
        return sum(self._answer_waiting(self.finished[row]) for row in done)

    def prepare_batch(self, rows: Sequence[int], encode: Encode) -> list[tuple[int, Prepared]]:
        """Read-only on this object, so it may run in another thread."""
        return [(row, self._prepare(row, encode)) for row in rows]

    def _prepare(self, row: int, encode: Encode) -> Prepared:
        saved = self.so_far.get(row, ())
        seed = zlib.crc32(f"{self.shard.uri} {self.shard.etag} {self.shard.id} {row}".encode())
        return prepare(row, self.request_id(row), self.rows, saved, seed, encode)

    def completed(self, row: int, completion: Completion) -> int:
        """Finish a row that the engine answered; how many rows that finishes."""
        request = self.running.pop(row)
        self.decoded_before += max(0, len(completion.token_ids) - len(request.saved))
        return self.done(finished_row(row, request, completion))

    def _unfinished(self, rows: Iterable[int]) -> set[int]:
        return {row for row in rows if row not in self.finished}

    def in_order(self) -> Iterator[FinishedRow]:
        """Every row of a complete shard."""
        return (self.finished[row] for row in range(self.rows.rows))

    def done(self, row: FinishedRow) -> int:
        """Finish a row, and those that waited for its answer; how many in all."""
        self._finish(row, TokenCounts(input=row.prompt_tokens, cached_input=row.cached_tokens))
        return 1 + self._answer_waiting(row)

    def _answer_waiting(self, leader: FinishedRow) -> int:
        rows = self.waiting.pop(leader.row, [])
        is_condemned = leader.error is not None and leader.row in condemned(self.strikes)
        if leader.error is not None and not is_condemned:
            # The next one may have better luck.
            self.unprepared.extendleft(rows[:1])
            self.waiting.update({row: rows[1:] for row in rows[:1] if rows[1:]})
            return 0
        same = f"{leader.error} (row {leader.row} asks the same)" if is_condemned else None
        copied = TokenCounts(
            input=leader.prompt_tokens,
            cached_input=leader.prompt_tokens,
            copied=leader.completion_tokens,
        )
        for row in rows:
            copy = replace(leader, row=row, error=same, cached_tokens=leader.prompt_tokens)
            self._finish(copy, copied)
        return len(rows)

    def _finish(self, row: FinishedRow, tokens: TokenCounts) -> None:
        self.finished[row.row] = row
        self.put_back.discard(row.row)
        self.unsaved.append(row)
        self.rows_done += 1
        self.tokens += tokens

    def take_back(self, tokens: Mapping[str, Sequence[int]]) -> list[int]:
        """What runs in an engine that is no more is to be submitted again, with its tokens so far;
        the rows it was."""
        self.decoded_before = self.decoded(tokens)
        self.so_far.update(self.in_flight(tokens))
        rows = sorted(self.running)
        self.put_back |= self.running.keys() & self.so_far.keys()
        self.running.clear()
        self.on_trial.clear()
        return rows

    def put_in_line(self, rows: Collection[int]) -> None:
        """Rows that were taken back go first, those that are still suspected into trials."""
        self.suspects |= suspected(self.strikes).intersection(rows)
        self.unprepared.extendleft(sorted(set(rows) - self.suspects, reverse=True))

    def strike(self, rows: list[int], beside: int, words: str) -> None:
        """The engine died with these rows in it, and `beside` rows of other shards."""
        if rows:
            strike = Strike(self.lease.epoch, self.struck, tuple(rows), beside, words)
            self.struck += 1
            self.strikes.append(strike)
            self.unsaved_strikes.append(strike)
            self.suspects |= set(rows)

    def withdraw(self, count: int) -> list[int]:
        """Take up to `count` rows that nobody has begun out of the line, from its end; in order."""
        struck = {row for strike in self.strikes for row in strike.rows}
        begun = self.so_far.keys() | struck | self.spoken_for

        def stays(row: int) -> bool:
            return row in begun or row in self.finished

        line: deque[Sequence[int]] = deque([tuple(self.unprepared)])
        rows = taken_from_end(self.unarranged, count, stays)
        rows += taken_from_end(line, count - len(rows), stays)
        self.unprepared = deque(row for stretch in line for row in stretch)
        return rows[::-1]

    def collect(self, row: FinishedRow) -> int:
        """A row that was withdrawn comes back finished: saved, counted and paid for elsewhere. How
        many rows that waited for its answer are finished by it."""
        self.finished[row.row] = row
        return self._answer_waiting(row)

    def take_home(self, left: Collection[int], progress: Progress) -> int:
        """Nobody else works on a portion any more, of which these rows are left: they are done
        here, with the tokens and the strikes they come with; how many are condemned by these."""
        self.strikes += [strike for strike in progress.strikes if strike not in self.strikes]
        guilty = condemned(self.strikes).intersection(left)
        done = self._give_up(guilty)
        home = set(left) - guilty
        self.so_far.update(
            {row: progress.in_flight[row] for row in home & progress.in_flight.keys()}
        )
        self.put_in_line(home)
        return done

    @property
    def earlier_attempts(self) -> list[Attempt]:
        """All but this one: of earlier epochs, and of those who helped."""
        known = {attempt.order: attempt for attempt in (*self.before.attempts, *self.lent.helpers)}
        return [known[order] for order in sorted(known)]

    def quarantine(self) -> int:
        """Finish the condemned rows with their error, and clear those they explain; how many."""
        guilty = self._unfinished(condemned(self.strikes)) - self.lent.rows
        done = self._give_up(guilty)
        cleared = self.suspects - guilty
        self.suspects.clear()
        self.put_in_line(cleared)
        return done

    def _give_up(self, guilty: Iterable[int]) -> int:
        verdicts = (FinishedRow(row, error=verdict(row, self.strikes)) for row in sorted(guilty))
        return sum(map(self.done, verdicts))

    def quarantined(self) -> dict[int, list[Strike]]:
        """The rows given up, and the strikes against them."""
        return {row: evidence(row, self.strikes) for row in sorted(condemned(self.strikes))}

    def in_flight(self, tokens: Mapping[str, Sequence[int]]) -> dict[int, tuple[int, ...]]:
        """This shard's rows in flight, or put back, and their tokens so far, if there are any."""
        found = {row: self.so_far[row] for row in self.put_back}
        for row, request in self.running.items():
            if so_far := tokens.get(request.id, ()):
                found[row] = tuple(so_far)
        return found

    def decoded(self, tokens: Mapping[str, Sequence[int]]) -> int:
        """Tokens this attempt decoded so far, of finished rows and of rows in flight."""
        running = (
            # An engine may find that it cannot go on from saved tokens, and begin again.
            max(0, len(tokens.get(request.id, request.saved)) - len(request.saved))
            for request in self.running.values()
        )
        return self.decoded_before + sum(running)

    def account(self, decoded: int, spare: int = 0) -> ShardAccount:
        earlier = tuple((price, spent.useful) for price, spent in self.earlier)
        return ShardAccount(self.lease.epoch, decoded, self.buckets.useful, spare, earlier)

    def attempt(
        self, decoded: int, node: Node, price: NodePrice, ended_at: str, end: AttemptEnd
    ) -> Attempt:
        return Attempt(
            worker_id=self.lease.worker_id,
            epoch=self.lease.epoch,
            node=node,
            price=price,
            started_at=self.lease.claimed_at,
            ended_at=ended_at,
            end=end,
            buckets=self.buckets,
            rows=self.rows_done,
            tokens=self.tokens + TokenCounts(output=decoded),
            portion=self.name.portion,
            take=self.take,
            earlier=self.earlier,
        )
