"""Times as books hold them, ISO 8601 texts that one clock wrote, and what is cut by a calendar."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)


def moment(timestamp: str) -> datetime | None:
    """None for what is no ISO 8601 time. One without a zone is UTC."""
    try:
        read = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def earlier_by(timestamp: str, micros: int) -> str:
    """So many microseconds before it; what is no time stays as it is."""
    read = moment(timestamp)
    return timestamp if read is None else (read - micros * MICROSECOND).isoformat()


def later_of(one: str, other: str) -> str:
    """The later of two; the first where one of them is no time."""
    first, second = moment(one), moment(other)
    return other if first is not None and second is not None and second > first else one


def cut(
    start: datetime, end: datetime, next_after: Callable[[datetime], datetime]
) -> list[tuple[datetime, datetime]]:
    """From `start` to `end`, cut wherever the calendar says that something begins `next_after`.
    What took no time is one part that takes none."""
    parts = []
    while (boundary := next_after(start)) < end:
        parts.append((start, boundary))
        start = boundary
    return [*parts, (start, max(start, end))]


def micros_between(earlier: str, later: str) -> int | None:
    """0 where the clock of one says that it was the other way round; None for what is no time."""
    start, end = moment(earlier), moment(later)
    return None if start is None or end is None else max(0, (end - start) // MICROSECOND)
