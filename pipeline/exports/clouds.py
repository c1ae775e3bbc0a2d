"""Whose machine it was, as far as the name of its zone tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ZONES = {
    # us-east-1a, us-gov-west-1b, us-west-2-lax-1a
    "Amazon Web Services": re.compile(r"([a-z]{2}(?:-[a-z]+)+-\d+)(?:-[a-z]+-\d+)?[a-z]"),
    # us-central1-a
    "Google Cloud": re.compile(r"([a-z]+-[a-z]+\d+)-[a-z]"),
    # eastus2-1: Azure numbers the zones of each region.
    "Microsoft Azure": re.compile(r"([a-z]+\d*)-\d"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Who sends the bill for a machine, and the region it was in; None where nobody can tell."""

    issuer: str | None = None
    region: str | None = None


def place_of(zone: str) -> Place:
    """By the form that each cloud gives the names of its zones, which no two share."""
    for issuer, form in _ZONES.items():
        if found := form.fullmatch(zone):
            return Place(issuer, found[1])
    return Place()
