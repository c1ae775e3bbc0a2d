"""Amazon EC2's spot market: what a type costs now in a zone."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from pipeline.core.money import Node
from pipeline.prices.book import Rate

log = logging.getLogger("spotmill.prices")

_PRODUCT = "Linux/UNIX"
_MOST_ENTRIES = 100


class NoPrice(Exception):
    """The market answered, and told no price of this node."""


class Ec2SpotPrices:
    """Implements `LivePrices` by `DescribeSpotPriceHistory`, with AWS's usual credentials.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html: with a
    start of now, the price in force now, and since when. Each kind of failure is logged once.
    """

    def __init__(
        self, region: str, endpoint_url: str | None = None, answer_seconds: float = 3.0
    ) -> None:
        self._region = region
        # AWS_ENDPOINT_URL is where objects are stored, which is seldom where machines are sold.
        self._endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_EC2") or None
        self._answer_seconds = answer_seconds
        self._client: Any = None
        self._told: set[str] = set()

    def spot(self, node: Node) -> Rate | None:
        try:
            return self._newest(node)
        except Exception as problem:
            self._complain(problem)
            return None

    def _newest(self, node: Node) -> Rate:
        if self._client is None:
            self._client = self._connect()
        pages = self._client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[node.instance_type],
            AvailabilityZone=node.zone,
            ProductDescriptions=[_PRODUCT],
            StartTime=datetime.now(UTC),
            # An answer may begin with empty pages.
            PaginationConfig={"MaxItems": _MOST_ENTRIES},
        )
        entries = [
            entry
            for page in pages
            for entry in page.get("SpotPriceHistory", ())
            if _is_about(entry, node)
        ]
        if not entries:
            raise NoPrice(f"no spot price of {node.instance_type} in {node.zone}")
        newest = max(entries, key=lambda entry: entry["Timestamp"])
        since = newest["Timestamp"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        source = f"EC2 spot price history, {node.zone}, as of {since}"
        return Rate(_dollars(newest["SpotPrice"]), source)

    def _connect(self) -> Any:
        session = Session()
        # A node without credentials is not to wait long for learning that it has none.
        session.set_config_variable("metadata_service_timeout", 1)
        session.set_config_variable("metadata_service_num_attempts", 1)
        if session.get_credentials() is None:
            raise NoPrice("there are no AWS credentials")
        return session.create_client(
            "ec2",
            region_name=self._region,
            endpoint_url=self._endpoint_url,
            config=Config(
                connect_timeout=self._answer_seconds,
                read_timeout=self._answer_seconds,
                retries={"mode": "standard", "total_max_attempts": 2},
                ignore_configured_endpoint_urls=True,
            ),
        )

    def _complain(self, problem: Exception) -> None:
        kind = _kind_of(problem)
        if kind in self._told:
            return
        self._told.add(kind)
        log.warning(
            "EC2 tells no spot price, which is said once and asked again: %s",
            str(problem) or repr(problem),
        )


def _is_about(entry: Mapping[str, Any], node: Node) -> bool:
    """A server that heeds no filter must not sell us another machine's price."""
    asked = (node.instance_type, node.zone, _PRODUCT)
    keys = ("InstanceType", "AvailabilityZone", "ProductDescription")
    return tuple(entry.get(key) for key in keys) == asked


def _dollars(text: str) -> Decimal:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise NoPrice(f"{text!r} is no price") from None
    if not usd.is_finite() or usd <= 0:
        raise NoPrice(f"{text!r} is no price of a machine")
    return usd


def _kind_of(problem: Exception) -> str:
    if isinstance(problem, NoPrice):
        return str(problem)
    if isinstance(problem, ClientError):
        return str(problem.response.get("Error", {}).get("Code"))
    return type(problem).__name__
