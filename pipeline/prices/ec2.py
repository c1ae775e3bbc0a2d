"""Amazon EC2's spot market: what a type costs now in a zone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.core.money import Node
from pipeline.prices.book import Rate
from pipeline.prices.ec2_access import role_session, usual_session

log = logging.getLogger("spotmill.prices")

_PRODUCT = "Linux/UNIX"
_MOST_ENTRIES = 100
_REFUSALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
"""Of keys that are not, or not any more, those of an AWS account that may ask."""


class NoPrice(Exception):
    """The market answered, and told no price of this node."""


class NoCredentials(NoPrice):
    """Nobody could be asked."""


class Ec2SpotPrices:
    """Implements `LivePrices` by `DescribeSpotPriceHistory`, with AWS's usual credentials, and with
    the machine's role where those are refused; `roles_alone` where they are another store's.

    The zone is asked for by `zone_id` where that tells it: names of zones are each account's own.
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html: with a
    start of now, the price in force now, and since when. Each kind of failure is logged once.
    """

    def __init__(
        self,
        region: str,
        endpoint_url: str | None = None,
        answer_seconds: float = 3.0,
        roles_alone: bool = False,
        zone_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._region = region
        # AWS_ENDPOINT_URL is where objects are stored, which is seldom where machines are sold.
        self._endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_EC2") or None
        self._answer_seconds = answer_seconds
        self._by_role = roles_alone
        self._ask_zone_id = zone_id
        self._zone_id: str | None = None
        self._client: Any = None
        self._told: set[str] = set()

    def spot(self, node: Node) -> Rate | None:
        try:
            return self._asked(node)
        except Exception as problem:
            self._complain(problem)
            return None

    def _asked(self, node: Node) -> Rate:
        try:
            return self._newest(node)
        except ClientError as refusal:
            if self._by_role or _kind_of(refusal) not in _REFUSALS:
                raise
            return self._asked_by_role(node, refusal)

    def _asked_by_role(self, node: Node, refusal: ClientError) -> Rate:
        self._client, self._by_role = None, True
        try:
            return self._newest(node)
        except (ClientError, NoCredentials):
            # What was refused may be allowed later, and is what somebody chose.
            self._client, self._by_role = None, False
            raise refusal from None

    def _newest(self, node: Node) -> Rate:
        if self._client is None:
            self._client = self._connect()
        self._zone_id = self._zone_id or self._ask_zone_id()
        pages = self._client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[node.instance_type],
            **self._zone(node),
            ProductDescriptions=[_PRODUCT],
            StartTime=datetime.now(UTC),
            # An answer may begin with empty pages.
            PaginationConfig={"MaxItems": _MOST_ENTRIES},
        )
        entries = [
            entry
            for page in pages
            for entry in page.get("SpotPriceHistory", ())
            if _is_about(entry, node, self._zone_id)
        ]
        if not entries:
            raise NoPrice(f"no spot price of {node.instance_type} in {node.zone}")
        newest = max(entries, key=lambda entry: entry["Timestamp"])
        since = newest["Timestamp"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        source = f"EC2 spot price history, {node.zone}, as of {since}"
        return Rate(_dollars(newest["SpotPrice"]), source)

    def _zone(self, node: Node) -> Mapping[str, str]:
        operation = self._client.meta.service_model.operation_model("DescribeSpotPriceHistory")
        # Older SDKs have names alone.
        if self._zone_id is None or "AvailabilityZoneId" not in operation.input_shape.members:
            return {"AvailabilityZone": node.zone}
        return {"AvailabilityZoneId": self._zone_id}

    def _connect(self) -> Any:
        session = role_session() if self._by_role else usual_session()
        if session.get_credentials() is None:
            whose = "and no role of this machine's" if self._by_role else ""
            raise NoCredentials(f"there are no AWS credentials {whose}".rstrip())
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


def _is_about(entry: Mapping[str, Any], node: Node, zone_id: str | None) -> bool:
    """A server that heeds no filter must not sell us another machine's price."""
    told_id = entry.get("AvailabilityZoneId")
    by_id = zone_id is not None and told_id is not None
    there = told_id == zone_id if by_id else entry.get("AvailabilityZone") == node.zone
    asked = (node.instance_type, _PRODUCT)
    return there and (entry.get("InstanceType"), entry.get("ProductDescription")) == asked


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
