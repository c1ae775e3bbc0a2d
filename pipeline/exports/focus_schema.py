"""The columns of `focus.parquet`: FOCUS 1.2's dataset Cost and Usage, and spotmill's own.

Source: FinOps Open Cost and Usage Specification, version 1.2, https://focus.finops.org. All its
mandatory and recommended columns are here, and of the conditional ones those whose condition holds:
spotmill knows no commitment discounts and no capacity reservations. `CommitmentDiscountStatus` is
here, and always null, since what the specification says of `ConsumedQuantity` refers to it.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from pipeline.exports.parquet import MOMENT, MONEY

FOCUS_VERSION = "1.2"


class PricingCategory(StrEnum):
    """`Committed` is none of ours: a price is the market's, the list's or nobody knows whose."""

    STANDARD = "Standard"
    DYNAMIC = "Dynamic"
    OTHER = "Other"


class Use(StrEnum):
    """What a row's time went to. A charge is a row for each, which add up to it."""

    USEFUL = "useful"
    WASTED = "wasted"
    STARTUP = "startup"
    IDLE = "idle"


_REQUIRED = {
    "BilledCost": MONEY,
    "BillingAccountId": pa.string(),
    "BillingAccountName": pa.string(),
    "BillingAccountType": pa.string(),
    "BillingCurrency": pa.string(),
    "BillingPeriodEnd": MOMENT,
    "BillingPeriodStart": MOMENT,
    "ChargeCategory": pa.string(),
    "ChargeDescription": pa.string(),
    "ChargeFrequency": pa.string(),
    "ChargePeriodEnd": MOMENT,
    "ChargePeriodStart": MOMENT,
    "ConsumedQuantity": MONEY,
    "ConsumedUnit": pa.string(),
    "InvoiceIssuerName": pa.string(),
    "PricingCategory": pa.string(),
    "PricingCurrency": pa.string(),
    "PricingQuantity": MONEY,
    "PricingUnit": pa.string(),
    "ProviderName": pa.string(),
    "PublisherName": pa.string(),
    "ServiceCategory": pa.string(),
    "ServiceName": pa.string(),
    "ServiceSubcategory": pa.string(),
    "SkuId": pa.string(),
    "SkuMeter": pa.string(),
    "SkuPriceId": pa.string(),
    "SubAccountId": pa.string(),
    "SubAccountName": pa.string(),
    "SubAccountType": pa.string(),
    "Tags": pa.string(),
    "x_Bucket": pa.string(),
    "x_JobName": pa.string(),
    "x_OnDemandPriceSource": pa.string(),
    "x_PriceSource": pa.string(),
    "x_SpotmillRunId": pa.string(),
    "x_WorkerId": pa.string(),
}

_NULLABLE = {
    "AvailabilityZone": pa.string(),
    "ChargeClass": pa.string(),
    "CommitmentDiscountStatus": pa.string(),
    "ContractedCost": MONEY,
    "ContractedUnitPrice": MONEY,
    "EffectiveCost": MONEY,
    "InvoiceId": pa.string(),
    "ListCost": MONEY,
    "ListUnitPrice": MONEY,
    "PricingCurrencyContractedUnitPrice": MONEY,
    "PricingCurrencyEffectiveCost": MONEY,
    "PricingCurrencyListUnitPrice": MONEY,
    "RegionId": pa.string(),
    "RegionName": pa.string(),
    "ResourceId": pa.string(),
    "ResourceName": pa.string(),
    "ResourceType": pa.string(),
    "SkuPriceDetails": pa.string(),
    "x_AttemptEnd": pa.string(),
    "x_CachedInputTokens": pa.int64(),
    "x_Epoch": pa.int64(),
    "x_InputTokens": pa.int64(),
    "x_InstanceType": pa.string(),
    "x_Lifecycle": pa.string(),
    "x_OnDemandEquivalent": MONEY,
    "x_Portion": pa.int64(),
    "x_Rows": pa.int64(),
    "x_ShardId": pa.int32(),
    "x_Take": pa.int64(),
}

FOCUS_SCHEMA = pa.schema(
    pa.field(name, kind, nullable=name in _NULLABLE)
    for name, kind in sorted((_REQUIRED | _NULLABLE).items(), key=lambda column: column[0])
)
"""In alphabetical order, `x_` columns last, as the specification has them."""
