"""A line of a run's costs by the days (UTC) that it fell on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from pipeline.core.cost_lines import Line
from pipeline.core.money import DOLLAR_GRAIN, Buckets, share_out
from pipeline.core.rows import TokenCounts
from pipeline.core.times import MICROSECOND, moment

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
    buckets = _each(line.buckets.items(), spent)
    tokens = _each(asdict(line.tokens), spent)
    usd = None if line.usd is None else {k: _money(v, spent) for k, v in line.usd.items()}
    on_demand = None if line.on_demand_usd is None else _money(line.on_demand_usd, spent)
    return {
        day: replace(
            line,
            buckets=Buckets(**buckets[day]),
            tokens=TokenCounts(**tokens[day]),
            usd=None if usd is None else {bucket: parts[day] for bucket, parts in usd.items()},
            on_demand_usd=None if on_demand is None else on_demand[day],
        )
        for day in spent
    }


def _days_between(started_at: str, ended_at: str) -> dict[str, int]:
    """Microseconds by date."""
    start, end = moment(started_at), moment(ended_at)
    if start is None or end is None:
        return {UNKNOWN_DAY: 1}
    found: dict[str, int] = {}
    while start.date() < end.date():
        midnight = datetime.combine(start.date() + timedelta(days=1), time(), UTC)
        found[start.date().isoformat()] = (midnight - start) // MICROSECOND
        start = midnight
    rest = (end - start) // MICROSECOND
    if rest > 0 or not found:
        found[start.date().isoformat()] = max(1, rest)
    return found


def _each(amounts: Mapping[str, int], days: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """By day, then by name."""
    shares = {name: share_out(amount, days) for name, amount in amounts.items()}
    return {day: {name: share[day] for name, share in shares.items()} for day in days}


def _money(amount: Decimal, days: Mapping[str, int]) -> dict[str, Decimal]:
    shares = share_out(int(amount / DOLLAR_GRAIN), days)
    return {day: grains * DOLLAR_GRAIN for day, grains in shares.items()}
