"""EC2's API, as far as somebody asks it what a spot instance costs.

The answers are as the real one gives them, recorded in
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html; errors are
of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from tests.doubles.server import Answer, Asked, MetadataDouble

_XML = {"Content-Type": "text/xml;charset=UTF-8"}
_REQUEST = "59dbff89-35bd-4eac-99ed-be587EXAMPLE"


@dataclass(frozen=True, slots=True)
class Sold:
    """One entry of the history: from `since` on, this is the price."""

    price: str
    since: str = "2026-11-20T04:00:00.000Z"
    kind: str = "g6.xlarge"
    zone: str = "us-east-1a"
    product: str = "Linux/UNIX"
    zone_id: str = "use1-az4"


class Ec2Api(MetadataDouble):
    """Answers with `pages`, one a request; heeds the filters it is asked with, unless told not to.
    With `refusal`, an error code, it refuses; with `known_keys`, all others."""

    def __init__(self, *history: Sold) -> None:
        super().__init__()
        self.pages: list[Sequence[Sold]] = [history]
        self.heeds_filters = True
        self.refusal: str | None = None
        self.known_keys: set[str] | None = None
        self.queries: list[dict[str, str]] = []

    def answer(self, asked: Asked) -> Answer:
        query = dict(parse_qsl(asked.body.decode()))
        self.queries.append(query)
        if not self._is_known(asked):
            return _error(401, "AuthFailure", "AWS was not able to validate the credentials")
        if self.refusal is not None:
            return _error(403, self.refusal, "You are not authorized to perform this operation.")
        if asked.method != "POST" or query.get("Action") != "DescribeSpotPriceHistory":
            return _error(400, "InvalidAction", "The action is not valid for this web service")
        datetime.fromisoformat(query["StartTime"])
        number = int(query.get("NextToken", "0"))
        sold = [one for one in self.pages[number] if not self.heeds_filters or _fits(one, query)]
        following = str(number + 1) if number + 1 < len(self.pages) else ""
        return Answer(200, _history(sold, following), _XML)

    def _is_known(self, asked: Asked) -> bool:
        key = key_of(asked)
        return key is not None and (self.known_keys is None or key in self.known_keys)


def key_of(asked: Asked) -> str | None:
    """The id of the key that a request was signed with."""
    found = re.search("Credential=([^/]+)/", asked.headers.get("authorization", ""))
    return None if found is None else found[1]


def _fits(one: Sold, query: dict[str, str]) -> bool:
    by_id = query.get("AvailabilityZoneId")
    there = one.zone == query.get("AvailabilityZone") if by_id is None else one.zone_id == by_id
    asked = (query.get("InstanceType.1"), query.get("ProductDescription.1"))
    return there and (one.kind, one.product) == asked


def _history(sold: Sequence[Sold], following: str) -> str:
    items = "".join(
        f"<item><instanceType>{escape(one.kind)}</instanceType>"
        f"<productDescription>{escape(one.product)}</productDescription>"
        f"<spotPrice>{escape(one.price)}</spotPrice>"
        f"<timestamp>{one.since}</timestamp>"
        f"<availabilityZone>{escape(one.zone)}</availabilityZone>"
        f"<availabilityZoneId>{escape(one.zone_id)}</availabilityZoneId></item>"
        for one in sold
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>{_REQUEST}</requestId><spotPriceHistorySet>{items}</spotPriceHistorySet>"
        f"<nextToken>{following}</nextToken></DescribeSpotPriceHistoryResponse>"
    )


def _error(status: int, code: str, message: str) -> Answer:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        f"<RequestID>{_REQUEST}</RequestID></Response>"
    )
    return Answer(status, body, _XML)
