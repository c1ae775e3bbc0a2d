"""The forms of zones, by which a machine's cloud and region are known."""

from __future__ import annotations

import pytest

from pipeline.core.zones import AWS, AZURE, GOOGLE, Place, place_of


@pytest.mark.parametrize(
    ("zone", "issuer", "region"),
    [
        ("us-east-1a", AWS, "us-east-1"),
        ("us-gov-west-1b", AWS, "us-gov-west-1"),
        ("us-iso-east-1a", AWS, "us-iso-east-1"),
        ("eusc-de-east-1a", AWS, "eusc-de-east-1"),
        ("ap-northeast-3c", AWS, "ap-northeast-3"),
        ("us-west-2-lax-1a", AWS, "us-west-2"),
        ("us-east-1-wl1-bos-wlz-1", AWS, "us-east-1"),
        ("us-central1-a", GOOGLE, "us-central1"),
        ("us-central1-ai1a", GOOGLE, "us-central1"),
        ("us-south1-ai1b", GOOGLE, "us-south1"),
        ("europe-west12-c", GOOGLE, "europe-west12"),
        ("northamerica-northeast1-c", GOOGLE, "northamerica-northeast1"),
        ("eastus2-1", AZURE, "eastus2"),
        ("eastus-3", AZURE, "eastus"),
    ],
)
def test_a_zone_tells_whose_it_is(zone: str, issuer: str, region: str) -> None:
    assert place_of(zone) == Place(issuer, region, zone)


@pytest.mark.parametrize("zone", ["cellar", "eastus2", "us-east-1", "use1-az1", "rack-12b", ""])
def test_what_has_the_form_of_nobodys_zones_is_in_no_cloud(zone: str) -> None:
    assert place_of(zone) == place_of(zone, "i-1") == Place(zone=zone)


def test_a_vm_of_azures_may_be_in_a_location_and_in_no_zone() -> None:
    vm = "/subscriptions/1/resourcegroups/a/providers/microsoft.compute/virtualmachines/b"
    assert place_of("eastus2", vm) == Place(AZURE, "eastus2", None)
    assert place_of("eastus2-1", vm) == Place(AZURE, "eastus2", "eastus2-1")
    assert place_of("unknown", vm) == Place()
