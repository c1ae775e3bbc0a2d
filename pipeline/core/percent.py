"""Parts of a hundred, of amounts that may be unknown."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

_GRAIN = Decimal("0.01")


def percent(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    """To two places; None when either is unknown, or the whole is nothing."""
    if part is None or whole is None or not whole:
        return None
    # A loss too small to be seen is no minus nothing.
    return (part * 100 / whole).quantize(_GRAIN, ROUND_HALF_EVEN) + Decimal(0)


def change(now: Decimal | None, then: Decimal | None) -> Decimal | None:
    """How much more than `then`, in percent of it."""
    return None if now is None or then is None else percent(now - then, then)
