"""What hosted APIs would have asked, by the package's own data and without a network."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from pipeline import hosted_prices
from pipeline.core.errors import JobInvalid
from pipeline.hosted_prices import USUAL_MODELS, Amount, hosted_costs

NOW = datetime(2026, 11, 20, tzinfo=UTC)
MILLION = 1_000_000
NIGHT = Amount(input_tokens=3 * MILLION, output_tokens=MILLION, rows=10_000, usd=Decimal("0.50"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing here may need a network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def of(model: str, amount: Amount = NIGHT, at: datetime = NOW) -> dict[str, Any]:
    found = hosted_costs([model], amount, at)
    assert found is not None
    [one] = found["models"]
    assert isinstance(one, dict)
    return one


def test_a_batch_price_is_half_of_the_standard_one() -> None:
    """As the package documents it: 5 USD for a million in and a million out of o3, by batch."""
    o3 = of("openai/o3")
    assert o3["price"] == "batch"
    assert Decimal(o3["input_per_1m"]) + Decimal(o3["output_per_1m"]) == 5
    total = 3 * Decimal(o3["input_per_1m"]) + Decimal(o3["output_per_1m"])
    assert Decimal(o3["total"]) == total
    assert Decimal(o3["per_1k_output_tokens"]) == total / 1000
    assert Decimal(o3["times_ours"]) == total * 2


def test_a_price_that_is_no_batch_price_is_called_standard() -> None:
    long_before = datetime(2026, 6, 1, tzinfo=UTC)
    o3 = of("openai/o3", at=long_before)
    assert o3["price"] == "standard"
    usage = Usage(input_tokens=MILLION, output_tokens=MILLION)
    listed = calc_price(usage, "o3", provider_id="openai", genai_request_timestamp=long_before)
    assert Decimal(o3["input_per_1m"]) + Decimal(o3["output_per_1m"]) == listed.total_price


def test_many_short_requests_are_not_one_long_one() -> None:
    """A rate that grows with a request's length is that of a request, not that of the night."""
    usage = Usage(input_tokens=NIGHT.input_tokens, output_tokens=NIGHT.output_tokens)
    at_once = calc_price(
        usage, "gemini-2.5-pro", provider_id="google", genai_request_timestamp=NOW,
        price_context={"processing": "batch"},
    )  # fmt: skip
    assert Decimal(of("google/gemini-2.5-pro")["total"]) < at_once.total_price


def test_the_usual_models_have_a_batch_price() -> None:
    found = hosted_costs((), NIGHT, NOW)
    assert found is not None
    assert [model["model"] for model in found["models"]] == list(USUAL_MODELS)
    assert {model["price"] for model in found["models"]} == {"batch"}
    assert found["source"].startswith("genai-prices 0.")


@pytest.mark.parametrize("usd", [None, Decimal(0)])
def test_an_unknown_cost_here_leaves_theirs_known(usd: Decimal | None) -> None:
    o3 = of("openai/o3", Amount(0, 0, 0, usd))
    assert (o3["total"], o3["times_ours"], o3["per_1k_output_tokens"]) == (
        "0.000000000000",
        None,
        None,
    )


@pytest.mark.parametrize("model", ["openai/no-such-model", "no-such-provider/o3"])
def test_a_model_that_nobody_has_a_price_of_is_refused(model: str) -> None:
    with pytest.raises(JobInvalid, match="nobody has a price of"):
        of(model)


@pytest.mark.parametrize("model", ["openai/whisper-1", "openai/text-embedding-3-small"])
def test_a_model_that_is_not_paid_for_by_the_token_is_refused_and_not_free(model: str) -> None:
    with pytest.raises(JobInvalid, match=r"nobody has a price of .* by the token") as refused:
        of(model)
    assert "output_mtok" in refused.value.why


def test_a_usual_model_that_the_package_has_no_more_is_left_out_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = ("anthropic/gone-1", "openai/whisper-1")
    monkeypatch.setattr(hosted_prices, "USUAL_MODELS", (USUAL_MODELS[0], *gone))
    found = hosted_costs((), NIGHT, NOW)
    assert found is not None
    assert [model["model"] for model in found["models"]] == [USUAL_MODELS[0]]
    [record] = caplog.records
    assert all(model in record.message for model in gone)
    with pytest.raises(JobInvalid):
        hosted_costs(gone, NIGHT, NOW)


@pytest.mark.parametrize("model", ["o3", "openai/", "/o3", ""])
def test_what_is_no_model_of_a_provider_is_refused(model: str) -> None:
    with pytest.raises(JobInvalid, match="provider/model"):
        of(model)


def test_without_the_package_nothing_is_compared_and_asking_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosted_prices, "find_spec", lambda _: None)
    assert hosted_costs((), NIGHT, NOW) is None
    with pytest.raises(JobInvalid, match=r"spotmill\[api-prices\]"):
        hosted_costs(["openai/o3"], NIGHT, NOW)
