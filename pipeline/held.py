"""One shard in a worker's hands: what is to do, what is in the engine, what is not saved yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pipeline.core.checkpoint import Attempt, AttemptEnd, Progress
from pipeline.core.errors import RowRejected
from pipeline.core.lease import Lease
from pipeline.core.money import Buckets, Node, NodePrice
from pipeline.core.ports import ShardInput
from pipeline.core.rows import Completion, FinishedRow, Prompt, Request, TokenCounts
from pipeline.core.session import ShardAccount
from pipeline.core.shards import Shard

# vLLM's other reasons ("abort", "error") are its own failures, not ends of an answer.
_ANSWERED = frozenset({"stop", "length", "repetition"})

Encode: TypeAlias = Callable[[Prompt], tuple[int, ...]]
Prepared: TypeAlias = Request | FinishedRow


def prepare(
    row: int, request_id: str, rows: ShardInput, saved: Progress, encode: Encode
) -> Prepared:
    """The engine request of a row, or the row finished with its error."""
    try:
        sampling = rows.sampling(row)
        tokens = encode(rows.prompt(row))
    except RowRejected as problem:
        return FinishedRow(row, error=str(problem))
    kept = saved.in_flight.get(row, ()) if sampling.continues_exactly else ()
    return Request(request_id, tokens, sampling, kept)


@dataclass(slots=True)
class HeldShard:
    """State only; the worker moves it, in one thread."""

    shard: Shard
    lease: Lease
    rows: ShardInput
    before: Progress
    saved_at: float
    finished: dict[int, FinishedRow] = field(init=False)
    unprepared: deque[int] = field(init=False)
    ready: deque[tuple[int, Prepared]] = field(default_factory=deque)
    running: dict[int, Request] = field(default_factory=dict)
    unsaved: list[FinishedRow] = field(default_factory=list)
    rows_done: int = 0
    decoded_finished: int = 0
    tokens: TokenCounts = TokenCounts()
    buckets: Buckets = Buckets()
    seq: int = 0
    saving: tuple[FinishedRow, ...] | None = None
    preparing: int = 0
    publishing: bool = False
    publish_in_doubt: bool = False

    def __post_init__(self) -> None:
        self.finished = dict(self.before.finished)
        self.unprepared = deque(
            row for row in range(self.rows.rows) if row not in self.before.finished
        )

    @property
    def complete(self) -> bool:
        return len(self.finished) == self.rows.rows

    @property
    def begun(self) -> bool:
        """Whether there is anything that a checkpoint could save."""
        return bool(self.unsaved or self.running)

    @property
    def to_submit(self) -> int:
        return len(self.unprepared) + self.preparing + len(self.ready)

    def request_id(self, row: int) -> str:
        return f"{self.shard.id}-{self.lease.epoch}-{row}"

    def prepare_batch(self, rows: list[int], encode: Encode) -> list[tuple[int, Prepared]]:
        """Read-only on this object, so it may run in another thread."""
        return [
            (row, prepare(row, self.request_id(row), self.rows, self.before, encode))
            for row in rows
        ]

    def completed(self, row: int, completion: Completion) -> None:
        request = self.running.pop(row)
        self.decoded_finished += len(completion.token_ids) - len(request.saved)
        if completion.finish_reason not in _ANSWERED:
            self.done(FinishedRow(row, error=f"the engine gave up: {completion.finish_reason}"))
            return
        self.done(
            FinishedRow(
                row,
                completion=completion.text,
                finish_reason=completion.finish_reason,
                prompt_tokens=len(request.prompt_token_ids),
                completion_tokens=len(completion.token_ids),
                # A continued request's cache hits may cover saved tokens, which are no prompt.
                cached_tokens=min(completion.cached_tokens, len(request.prompt_token_ids)),
                logprobs=completion.logprobs,
            )
        )

    def done(self, row: FinishedRow) -> None:
        self.finished[row.row] = row
        self.unsaved.append(row)
        self.rows_done += 1
        self.tokens += TokenCounts(input=row.prompt_tokens, cached_input=row.cached_tokens)

    def in_flight(self, tokens: Mapping[str, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
        """This shard's rows in flight and their tokens so far, where there are any."""
        found = ((row, tokens.get(request.id, ())) for row, request in self.running.items())
        return {row: so_far for row, so_far in found if so_far}

    def decoded(self, tokens: Mapping[str, tuple[int, ...]]) -> int:
        """Tokens this attempt decoded so far, of finished rows and of rows in flight."""
        begun = sum(
            len(so_far) - len(self.running[row].saved)
            for row, so_far in self.in_flight(tokens).items()
        )
        return self.decoded_finished + begun

    def account(self, decoded: int) -> ShardAccount:
        return ShardAccount(self.lease.epoch, decoded, self.buckets.useful)

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
        )
