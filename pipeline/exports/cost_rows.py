"""What a run cost, charge by charge: each attempt at each price, and what no shard is charged for.

A fold over the run's manifest and its shards', which never change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from pipeline.core.attempt_shares import shares_of_attempts
from pipeline.core.cost_kinds import kinds_of_attempt, kinds_of_rest
from pipeline.core.cost_lines import life_in_books
from pipeline.core.errors import BooksUnbalanced
from pipeline.core.money import (
    Buckets,
    Node,
    NodePrice,
    decimal_of,
    dollars,
    share_out,
    share_out_each,
    sum_of,
)
from pipeline.core.rows import TokenCounts
from pipeline.core.spans import charges

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CostRow:
    """Time at one price: an attempt's or, where there is no `shard_id`, what a session had left.

    The three amounts add up to what the books say of it; each is None where time has an unknown
    price. Rows and tokens are those that the shard published, as far as they are this attempt's;
    where it had several prices, they are shared out by the time spent decoding.
    """

    run_id: str
    job: str
    worker_id: str
    node: Node
    started_at: datetime
    ended_at: datetime
    price: NodePrice
    buckets: Buckets
    useful: Decimal | None
    wasted: Decimal | None
    overhead: Decimal | None
    tokens: TokenCounts
    tags: Mapping[str, str]
    shard_id: int | None = None
    epoch: int | None = None
    portion: int | None = None
    take: int | None = None
    rows: int = 0
    end: str | None = None

    @property
    def total(self) -> Decimal | None:
        return sum_of((self.useful, self.wasted, self.overhead))

    @property
    def on_demand_equivalent(self) -> Decimal | None:
        """What the same time would have cost on demand; None where nobody knows."""
        return dollars(self.buckets.total, self.price.on_demand_usd_per_hour)


def cost_rows(job: str, run: Json, manifests: Iterable[Json]) -> Iterator[CostRow]:
    """Every charge of a finished run: those of its shards in their order, then what is left of each
    session. Raises `BooksUnbalanced` after the last unless they add up to the run's `cost.total`,
    to the last digit; one of them is None where that is null.
    """
    total: Decimal | None = Decimal(0)
    for row in _all_rows(job, run, manifests):
        total = sum_of((total, row.total))
        yield row
    said = decimal_of(run["cost"]["total"])
    if total != said:
        raise BooksUnbalanced(
            f"the charges add up to {total}, not to the {said} of the run's manifest",
            where=run["run_id"],
            why="a shard's manifest is missing, or one was altered",
            hint="run `spotmill verify` on this run",
        )


def _all_rows(job: str, run: Json, manifests: Iterable[Json]) -> Iterator[CostRow]:
    for manifest in manifests:
        yield from _of_shard(job, manifest)
    workers = {worker["worker_id"]: worker for worker in run["workers"]}
    for left in run["unallocated"]:
        yield from _of_rest(job, run, workers[left["worker_id"]], left)


def _of_shard(job: str, manifest: Json) -> Iterator[CostRow]:
    for attempt, share in zip(manifest["attempts"], shares_of_attempts(manifest), strict=True):
        spans = charges(attempt)
        kinds = kinds_of_attempt(spans)
        decoding = {n: each.useful + each.wasted for n, (_, each) in enumerate(spans)}
        rows = share_out(share.rows, decoding)
        tokens = share_out_each(asdict(share.tokens), decoding)
        portion = attempt.get("portion", {})
        started_at, ended_at = _period(attempt["started_at"], attempt["ended_at"])
        for number, (price, buckets) in enumerate(spans):
            yield CostRow(
                run_id=manifest["run_id"],
                job=job,
                worker_id=attempt["worker_id"],
                node=Node(**attempt["node"]),
                started_at=started_at,
                ended_at=ended_at,
                price=price,
                buckets=buckets,
                **kinds[number]._asdict(),
                tokens=TokenCounts(**tokens[number]),
                tags=manifest["tags"],
                shard_id=manifest["shard_id"],
                epoch=attempt["epoch"],
                portion=portion.get("number"),
                take=portion.get("take"),
                rows=rows[number],
                end=attempt["end"],
            )


def _of_rest(job: str, run: Json, worker: Json, left: Json) -> Iterator[CostRow]:
    """A session's rest, which may have been at any time of its life."""
    spans = charges(left)
    kinds = kinds_of_rest(spans, decimal_of(left["cost"]))
    lost = share_out(left["tokens"], {n: each.wasted for n, (_, each) in enumerate(spans)})
    started_at, ended_at = _life(run, worker)
    for number, (price, buckets) in enumerate(spans):
        yield CostRow(
            run_id=run["run_id"],
            job=job,
            worker_id=left["worker_id"],
            node=Node(**worker["node"]),
            started_at=started_at,
            ended_at=ended_at,
            price=price,
            buckets=buckets,
            **kinds[number]._asdict(),
            tokens=TokenCounts(wasted=lost[number]),
            tags=run["tags"],
        )


def _life(run: Json, worker: Json) -> tuple[datetime, datetime]:
    """A session's; the run's where nobody knows it."""
    return _period(*(life_in_books(worker) or (run["started_at"], run["finished_at"])))


def _period(started_at: str, ended_at: str) -> tuple[datetime, datetime]:
    """Both in UTC. Clocks of two machines may differ: nothing ends before it began."""
    start, end = (_moment(text) for text in (started_at, ended_at))
    return start, max(start, end)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without its zone: {text!r}")
    return moment.astimezone(UTC)
