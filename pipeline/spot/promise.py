"""How much of a promised time is left, by the clock of this machine alone."""

from __future__ import annotations

_LEAST_SECONDS = 5.0


class Promise:
    """`seconds` run from when a notice was given, which is after the last answer that had none.

    Times a cloud writes into its notice are not used: they are another machine's clock. All times
    here are monotonic seconds of this one.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._none_at: float | None = None

    def none_yet(self, at: float) -> None:
        """No notice had been given at this time."""
        self._none_at = at

    def left(self, at: float) -> float | None:
        """Seconds surely left at this time; None when nobody knows, or hardly any are.

        A deadline about to pass would cut a drain short that may have had time.
        """
        if self._none_at is None:
            return None
        seconds = self._seconds - (at - self._none_at)
        return seconds if seconds >= _LEAST_SECONDS else None
