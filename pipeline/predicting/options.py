"""What `spotmill plan` may be asked for beyond the shards, as command-line options."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from pipeline.predicting.generating import LEAST_ROWS


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as problem:
        raise typer.BadParameter(f"{text!r} is no amount of dollars") from problem
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"{text!r} is no amount of dollars")
    return amount


Sample = Annotated[
    int | None,
    typer.Option(
        help="generate so many rows, to see how long and fast answers are", min=LEAST_ROWS
    ),
]
MaxUsd = Annotated[
    Decimal | None, typer.Option(parser=_usd, help="refuse (exit 4) if the cost's p90 is above")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="expect this of the run of this name, and tell how far off")
]
