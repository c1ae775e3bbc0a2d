"""What a zone's name says of prices."""

from __future__ import annotations

import re

from pipeline.core.zones import AWS, place_of


def region_of(zone: str) -> str | None:
    """The EC2 region that a zone belongs to; None when this is no zone of EC2's."""
    place = place_of(zone)
    return place.region if place.issuer == AWS else None


def is_zone_of(zone: str, region: str) -> bool:
    """us-east-1a, us-central1-a and eastus-1 are zones of us-east-1, us-central1 and eastus; a
    Local Zone, which has prices of its own, is none. In small letters or large ones."""
    form = rf"{re.escape(region)}([a-z]|-[a-z]|-\d+)?"
    return re.fullmatch(form, zone, re.IGNORECASE) is not None
