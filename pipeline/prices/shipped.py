"""The price book that comes with spotmill: dated list prices of common GPU machines."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pipeline.prices.book import PriceBook, parse_prices


@cache
def shipped_book() -> PriceBook:
    """List prices, which nobody's contract need follow: each says of when and where it is."""
    text = files("pipeline.prices").joinpath("book.yaml").read_text(encoding="utf-8")
    return parse_prices(text, "spotmill's own price book")
