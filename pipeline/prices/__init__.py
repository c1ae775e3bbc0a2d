"""What an hour of a node costs, since when, and who says so."""

from pipeline.prices.book import MachinePrice, PriceBook, PriceList, Rate, parse_prices
from pipeline.prices.quotes import LivePrices, Quotes
from pipeline.prices.shipped import shipped_book
from pipeline.prices.watch import PriceWatch

__all__ = [
    "LivePrices",
    "MachinePrice",
    "PriceBook",
    "PriceList",
    "PriceWatch",
    "Quotes",
    "Rate",
    "parse_prices",
    "shipped_book",
]
