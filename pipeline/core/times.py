"""Times as books hold them: ISO 8601 texts that one clock wrote."""

from __future__ import annotations

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


def micros_between(earlier: str, later: str) -> int | None:
    """0 where the clock of one says that it was the other way round; None for what is no time."""
    start, end = moment(earlier), moment(later)
    return None if start is None or end is None else max(0, (end - start) // MICROSECOND)
