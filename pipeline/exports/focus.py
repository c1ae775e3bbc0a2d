"""`focus.parquet`: a run's charges as FinOps tools load them, by FOCUS 1.2.

The cloud bills the machines. Here is who used them, so every row has a `BilledCost` of 0, and an
`EffectiveCost`, which adds up to the run's cost: put beside the cloud's own rows, joined by
`ResourceId`, nothing counts twice. `ContractedCost` is hours times the price the node had,
`ListCost` hours times the on-demand price or, where nobody knows that, the node's own.

An unknown price is no price of 0. FOCUS allows no null in `EffectiveCost`, `ContractedCost` and
`ListCost`, nor in the unit prices of usage, and has no other word for an amount that nobody knows:
rows at an unknown price hold null there, `x_PriceSource` says so, and a run with such rows does
not conform until its nodes have prices. Whatever else nobody knows is null where FOCUS allows it
(zone, region, resource) and `unknown` where it doesn't (SKU, invoice issuer).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from pipeline.core.cost_kinds import shared
from pipeline.core.manifest import CURRENCY
from pipeline.core.money import ON_DEMAND, SPOT, dollars
from pipeline.core.zones import place_of
from pipeline.exports.cost_rows import CostRow
from pipeline.exports.focus_schema import FOCUS_SCHEMA, FOCUS_VERSION, PricingCategory, Use
from pipeline.exports.months import by_month, month_of
from pipeline.exports.parquet import encode, hours, tags_text, to_grain

_UNKNOWN = "unknown"
_PRICING = {SPOT: PricingCategory.DYNAMIC, ON_DEMAND: PricingCategory.STANDARD}
_WORDS = {
    Use.USEFUL: "Generating",
    Use.WASTED: "Work lost to preemption",
    Use.STARTUP: "Starting and loading the model",
    Use.IDLE: "Waiting and draining",
}


def encode_focus(rows: Iterable[CostRow]) -> bytes:
    """The same rows give the same bytes."""
    return encode(
        (record for row in rows for part in by_month(row) for record in _records(part)),
        FOCUS_SCHEMA,
        {"FocusVersion": FOCUS_VERSION, "DataGenerator": "spotmill"},
    )


def _records(row: CostRow) -> Iterator[dict[str, Any]]:
    """A row for each use of the charge's time, but for those of which there is nothing to tell."""
    common = _common(row)
    counts = (row.rows, row.tokens.input, row.tokens.cached_input)
    for use, micros, cost, tokens in _uses(row):
        if micros or tokens or cost or (use is Use.USEFUL and any(counts)):
            yield common | _used(row, use, micros, cost, tokens)


def _uses(row: CostRow) -> Iterator[tuple[Use, int, Decimal | None, int]]:
    times, rate = row.buckets, row.price.usd_per_hour
    before, between = times.boot + times.load, times.idle + times.drain
    # The first of equals takes what rounding leaves.
    idle, startup = shared(row.overhead, [(between, rate), (before, rate)])
    yield Use.USEFUL, times.useful, row.useful, row.tokens.output
    yield Use.WASTED, times.wasted, row.wasted, row.tokens.wasted
    yield Use.STARTUP, before, startup, 0
    yield Use.IDLE, between, idle, 0


def _used(row: CostRow, use: Use, micros: int, cost: Decimal | None, tokens: int) -> dict[str, Any]:
    price = row.price.usd_per_hour
    on_demand = row.price.on_demand_usd_per_hour
    listed = price if on_demand is None else on_demand
    shard = "no shard" if row.shard_id is None else f"shard {row.shard_id}"
    rate = "an unknown price" if price is None else f"{price:f} {CURRENCY} an hour"
    counted = row.tokens if use is Use.USEFUL else None
    return {
        "ChargeDescription": (
            f"{_WORDS[use]} for {shard} of run {row.run_id} on {row.node.instance_type} "
            f"({row.node.lifecycle}) at {rate}"
        ),
        "ConsumedQuantity": Decimal(tokens),
        "PricingQuantity": hours(micros),
        "EffectiveCost": cost,
        "ContractedCost": dollars(micros, price),
        "ContractedUnitPrice": to_grain(price),
        "ListCost": dollars(micros, listed),
        "ListUnitPrice": to_grain(listed),
        "PricingCurrencyContractedUnitPrice": to_grain(price),
        "PricingCurrencyEffectiveCost": cost,
        "PricingCurrencyListUnitPrice": to_grain(listed),
        "x_Bucket": use.value,
        "x_CachedInputTokens": counted and counted.cached_input,
        "x_InputTokens": counted and counted.input,
        "x_OnDemandEquivalent": dollars(micros, on_demand),
        "x_Rows": row.rows if counted else None,
    }


def _common(row: CostRow) -> dict[str, Any]:
    node, resource = row.node, row.node.resource_id
    place = place_of(node.zone, resource)
    started, ended = month_of(row.started_at)
    pricing = _PRICING.get(node.lifecycle, PricingCategory.OTHER)
    typed = node.instance_type != _UNKNOWN
    return {
        "AvailabilityZone": place.zone,
        "BilledCost": Decimal(0),
        "BillingAccountId": row.job,
        "BillingAccountName": row.job,
        "BillingAccountType": "Job",
        "BillingCurrency": CURRENCY,
        "BillingPeriodEnd": ended,
        "BillingPeriodStart": started,
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": row.ended_at,
        "ChargePeriodStart": row.started_at,
        "ConsumedUnit": "Tokens",
        "InvoiceIssuerName": place.issuer or _UNKNOWN,
        "PricingCategory": pricing.value,
        "PricingCurrency": CURRENCY,
        "PricingUnit": "Hours",
        "ProviderName": "spotmill",
        "PublisherName": "spotmill",
        "RegionId": place.region,
        "RegionName": place.region,
        "ResourceId": resource,
        "ResourceType": None if resource is None else "Virtual Machine",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "spotmill",
        "ServiceSubcategory": "Generative AI",
        "SkuId": node.instance_type,
        "SkuMeter": "Instance Hours",
        "SkuPriceDetails": json.dumps({"InstanceType": node.instance_type}) if typed else None,
        "SkuPriceId": f"{node.instance_type}/{node.lifecycle}/{node.zone}",
        "SubAccountId": row.run_id,
        "SubAccountName": row.run_id,
        "SubAccountType": "Run",
        "Tags": tags_text(row.tags),
        "x_AttemptEnd": row.end,
        "x_Epoch": row.epoch,
        "x_InstanceType": node.instance_type if typed else None,
        "x_JobName": row.job,
        "x_Lifecycle": None if node.lifecycle == _UNKNOWN else node.lifecycle,
        "x_OnDemandPriceSource": row.price.on_demand_source,
        "x_Portion": row.portion,
        "x_PriceSource": row.price.source,
        "x_ShardId": row.shard_id,
        "x_SpotmillRunId": row.run_id,
        "x_Take": row.take,
        "x_WorkerId": row.worker_id,
    }
