"""What the name of a zone tells: whose machine it was, and in which region."""

from __future__ import annotations

import re
from dataclasses import dataclass

AWS, GOOGLE, AZURE = "Amazon Web Services", "Google Cloud", "Microsoft Azure"

_ZONES = {
    # us-east-1a, us-gov-west-1b, eusc-de-east-1a; the Local Zone us-west-2-lax-1a, and the
    # Wavelength Zone us-east-1-wl1-bos-wlz-1.
    AWS: re.compile(
        r"([a-z]{2,4}(?:-[a-z]+){1,2}-\d+)(?:[a-z]|-[a-z]+-\d+[a-z]|-wl\d+-[a-z]+-wlz-\d+)"
    ),
    # us-central1-a; the AI zone us-central1-ai1a
    GOOGLE: re.compile(r"([a-z]+-[a-z]+\d+)-(?:[a-z]|ai\d+[a-z])"),
    # eastus2-1: Azure numbers the zones of each location, and names none by itself.
    AZURE: re.compile(r"([a-z]+\d*)-\d"),
}
_AZURE_LOCATION = re.compile(r"[a-z]+\d*")
_AZURE_RESOURCE = "/subscriptions/"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Place:
    """Whose cloud a machine was in, its region, and the zone of it; None where nobody can tell, or
    where the cloud put it in no zone."""

    issuer: str | None = None
    region: str | None = None
    zone: str | None = None


def place_of(zone: str, resource_id: str | None = None) -> Place:
    """By the form that each cloud gives the names of its zones, which no two share. A VM of Azure's
    may be in a location and in no zone: its `resource_id` tells that the name is a location's."""
    if zone == _UNKNOWN:
        return Place()
    for issuer, form in _ZONES.items():
        if found := form.fullmatch(zone):
            return Place(issuer, found[1], zone)
    is_azures = resource_id is not None and resource_id.startswith(_AZURE_RESOURCE)
    if is_azures and _AZURE_LOCATION.fullmatch(zone):
        return Place(AZURE, zone)
    return Place(zone=zone)
