"""A line of a run's costs by the days (UTC) that it fell on."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, time, timedelta

from pipeline.core.cost_lines import Line
from pipeline.core.money import Buckets, share_out_dollars, share_out_each
from pipeline.core.rows import TokenCounts
from pipeline.core.times import MICROSECOND, cut, moment

UNKNOWN_DAY = "unknown"


def by_day(line: Line) -> dict[str, Line]:
    """The parts of a line by date, which sum to it exactly.

    What went on over midnight is cut in proportion to the time on either side: books hold its
    seconds by bucket, and not when each of them was. So a session's boot and load, which came
    first, are spread over all its life. One whose times cannot be read is of `UNKNOWN_DAY`.
    """
    spent = _days_between(line.started_at, line.ended_at)
    if len(spent) == 1:
        return dict.fromkeys(spent, line)
    buckets = share_out_each(line.buckets.items(), spent)
    tokens = share_out_each(asdict(line.tokens), spent)
    usd = (
        None if line.usd is None else {k: share_out_dollars(v, spent) for k, v in line.usd.items()}
    )
    listed = None if line.on_demand_usd is None else share_out_dollars(line.on_demand_usd, spent)
    return {
        day: replace(
            line,
            buckets=Buckets(**buckets[day]),
            tokens=TokenCounts(**tokens[day]),
            usd=None if usd is None else {bucket: parts[day] for bucket, parts in usd.items()},
            on_demand_usd=None if listed is None else listed[day],
        )
        for day in spent
    }


def _days_between(started_at: str, ended_at: str) -> dict[str, int]:
    """Microseconds by date."""
    start, end = moment(started_at), moment(ended_at)
    if start is None or end is None:
        return {UNKNOWN_DAY: 1}
    parts = cut(start, end, _midnight_after)
    return {
        first.date().isoformat(): max(1, (last - first) // MICROSECOND) for first, last in parts
    }


def _midnight_after(at: datetime) -> datetime:
    return datetime.combine(at.date() + timedelta(days=1), time(), UTC)
