"""A charge by the months (UTC) that it fell on, which clouds bill by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal

from pipeline.core.money import Buckets, share_out, share_out_dollars, share_out_each
from pipeline.core.rows import TokenCounts
from pipeline.core.times import MICROSECOND, cut
from pipeline.exports.cost_rows import CostRow


def month_of(moment: datetime) -> tuple[datetime, datetime]:
    """When it began and when the next one does."""
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first, (first + timedelta(days=31)).replace(day=1)


def by_month(row: CostRow) -> Iterator[CostRow]:
    """A charge's parts, each in one month, which sum to it exactly: in proportion to the time in
    each, since books hold its seconds by bucket, and not when each of them was."""
    periods = cut(row.started_at, row.ended_at, lambda at: month_of(at)[1])
    if len(periods) == 1:
        yield row
        return
    spent = {n: (end - start) // MICROSECOND for n, (start, end) in enumerate(periods)}
    buckets = share_out_each(row.buckets.items(), spent)
    tokens = share_out_each(asdict(row.tokens), spent)
    rows = share_out(row.rows, spent)
    useful, wasted, overhead = (
        _shared(usd, spent) for usd in (row.useful, row.wasted, row.overhead)
    )
    for number, (started_at, ended_at) in enumerate(periods):
        yield replace(
            row,
            started_at=started_at,
            ended_at=ended_at,
            buckets=Buckets(**buckets[number]),
            useful=useful[number],
            wasted=wasted[number],
            overhead=overhead[number],
            tokens=TokenCounts(**tokens[number]),
            rows=rows[number],
        )


def _shared(usd: Decimal | None, spent: dict[int, int]) -> dict[int, Decimal | None]:
    if usd is None:
        return dict.fromkeys(spent)
    return {**share_out_dollars(usd, spent)}
