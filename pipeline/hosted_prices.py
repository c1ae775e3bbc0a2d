"""What a run's tokens would have cost from hosted APIs, by the prices that `genai-prices` ships."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from pipeline.core.errors import JobInvalid
from pipeline.core.manifest import per_token
from pipeline.core.money import DOLLAR_GRAIN, decimal_text

log = logging.getLogger("spotmill")

USUAL_MODELS = ("openai/gpt-5-mini", "anthropic/claude-haiku-4-5", "google/gemini-2.5-flash")
"""What is compared with unless somebody asks for others: the small ones of three large offers."""

_THREE_DIGITS = Context(prec=3)
_BATCH = {"processing": "batch"}
_SIDES = ("input_mtok", "output_mtok")
"""The package's names of what a million tokens cost."""
_NOTE = (
    "tokens as this run's tokenizer counts them, at the rate of a request of their mean length, "
    "none of them cached; another model's answers are others"
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Amount:
    """What would have been bought: the published tokens of so many answered rows, and what they
    cost here."""

    input_tokens: int
    output_tokens: int
    rows: int
    usd: Decimal | None


def hosted_costs(models: Sequence[str], amount: Amount, at: datetime) -> Json | None:
    """What `amount` would have cost from each of `models`, or the usual ones, at the prices of
    that time. None when nobody asks for a model and `genai-prices` is not installed; a usual one
    that it has no more is left out, and said in the log.

    `price` says whether it is the batch price, or the standard one of a model that has none there.
    Needs no network. Raises `JobInvalid` for a model that has no price by the token, and
    where it cannot know.
    """
    if find_spec("genai_prices") is None:
        if not models:
            return None
        raise JobInvalid(
            "prices of hosted APIs are not installed",
            where="--compare-api",
            hint="pip install 'spotmill[api-prices]'",
        )
    asked_for = [_hosted(model, amount, at) for model in models]
    return {
        "source": f"genai-prices {metadata.version('genai-prices')}",
        "note": _NOTE,
        "models": asked_for or _usual(amount, at),
    }


def _usual(amount: Amount, at: datetime) -> list[Json]:
    found, missing = [], []
    for model in USUAL_MODELS:
        try:
            found.append(_hosted(model, amount, at))
        except JobInvalid as problem:
            missing.append(problem.what)
    if missing:
        # Nobody asked for it: another version of the package names it otherwise, or not at all.
        log.warning("not compared with: %s", "; ".join(missing))
    return found


def _hosted(model: str, amount: Amount, at: datetime) -> Json:
    per_input, per_output, kind = _rates(model, amount, at)
    given, answered = per_input * amount.input_tokens, per_output * amount.output_tokens
    total = (given + answered).quantize(DOLLAR_GRAIN, ROUND_HALF_EVEN)
    times = None if not amount.usd else _THREE_DIGITS.divide(total, amount.usd)
    return {
        "model": model,
        "price": kind,
        "input_per_1m": decimal_text((per_input * 1_000_000).normalize()),
        "output_per_1m": decimal_text((per_output * 1_000_000).normalize()),
        "total": decimal_text(total),
        **per_token(total, amount.input_tokens, amount.output_tokens),
        "times_ours": decimal_text(times),
    }


def _rates(model: str, amount: Amount, at: datetime) -> tuple[Decimal, Decimal, str]:
    """Dollars for a token put in and one that comes out, and whose rate that is.

    A request's rate may depend on its length, so one of the mean length is asked for.
    """
    from genai_prices import Usage, calc_price

    provider, slash, name = model.partition("/")
    if not (provider and slash and name):
        raise JobInvalid(
            f"{model!r} is no model of an API",
            where="--compare-api",
            hint=f"write provider/model, such as {USUAL_MODELS[0]}",
        )
    given, answered = (
        max(1, round(tokens / max(1, amount.rows)))
        for tokens in (amount.input_tokens, amount.output_tokens)
    )
    version = metadata.version("genai-prices")
    usage = Usage(input_tokens=given, output_tokens=answered)

    def rates(context: dict[str, str] | None) -> tuple[Decimal, Decimal]:
        found = calc_price(
            usage, name, provider_id=provider, genai_request_timestamp=at, price_context=context
        )
        unpriced = [side for side in _SIDES if getattr(found.model_price, side, None) is None]
        if unpriced:
            # What the package adds up for it is 0: it is paid for by the minute, the page or not
            # at all, or answers in no tokens.
            raise LookupError(f"genai-prices {version} has no {' and no '.join(unpriced)} for it")
        return found.input_price / given, found.output_price / answered

    try:
        batch, standard = rates(_BATCH), rates(None)
    except LookupError as problem:
        raise JobInvalid(
            f"nobody has a price of {model!r} by the token",
            where="--compare-api",
            why=str(problem),
            hint="`genai-prices list` names the providers and models that there are",
        ) from problem
    # Where a model has no batch price, the package answers with the standard one.
    return (*batch, "standard" if batch == standard else "batch")
