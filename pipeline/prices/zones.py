"""What a zone's name says."""

from __future__ import annotations

import re

_EC2_ZONE = re.compile(r"([a-z]{2}(?:-[a-z]+){1,2}-\d+)(?:[a-z]|-[a-z]+-\d+[a-z])")
"""us-east-1a, us-gov-west-1b, and the Local Zone us-west-2-lax-1a. No other cloud's look so."""


def region_of(zone: str) -> str | None:
    """The EC2 region that a zone belongs to; None when this is no zone of EC2's."""
    found = _EC2_ZONE.fullmatch(zone)
    return None if found is None else found[1]


def is_zone_of(zone: str, region: str) -> bool:
    """us-east-1a, us-central1-a and eastus-1 are zones of us-east-1, us-central1 and eastus; a
    Local Zone, which has prices of its own, is none."""
    return re.fullmatch(rf"{re.escape(region)}([a-z]|-[a-z]|-\d+)?", zone) is not None
