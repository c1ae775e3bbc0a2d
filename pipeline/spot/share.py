"""How much of its machine a worker has, so that a machine's price is charged once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fractions import Fraction

from pipeline.core.errors import JobInvalid

SHARE = "SPOTMILL_NODE_SHARE"
_FORM = re.compile(r"\d{1,9}(?:\.\d{1,12})?|\.\d{1,12}|\d{1,9}/\d{1,9}")


def node_share(environment: Mapping[str, str] = os.environ) -> Fraction:
    """`SPOTMILL_NODE_SHARE`, as a fraction ("1/8") or a decimal ("0.125"); all of the machine where
    it is not set. Raises `JobInvalid`."""
    text = environment.get(SHARE)
    if not text:
        return Fraction(1)
    share = _fraction(text.strip())
    if share is None or not 0 < share <= 1:
        raise JobInvalid(
            f"{text!r} is no share of a machine",
            where=SHARE,
            hint="write it as 1/8 or 0.125, more than 0 and 1 at most; unset it for all of it",
        )
    return share


def _fraction(text: str) -> Fraction | None:
    # Not all that `Fraction` reads: of 1e-999999999 it would make a number for hours.
    if not _FORM.fullmatch(text):
        return None
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return None
