"""Which node a worker is on: what it was told, what its cloud says, or unknown."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.core.money import Node
from pipeline.spot.node import node_at_hand
from tests.doubles.azure_metadata import AzureMetadata
from tests.doubles.google_metadata import GoogleMetadata
from tests.doubles.imds import Imds
from tests.doubles.server import Asked, MetadataDouble, Trouble

TOLD = {
    "SPOTMILL_INSTANCE_ID": "box-7",
    "SPOTMILL_INSTANCE_TYPE": "laptop",
    "SPOTMILL_INSTANCE_ZONE": "desk",
    "SPOTMILL_INSTANCE_LIFECYCLE": "on-demand",
}
CLOUDS: dict[str, tuple[Callable[[], MetadataDouble], Node]] = {
    "aws": (Imds, Node("i-0b22a22eec53b9321", "g6.xlarge", "us-east-1a", "spot")),
    "google": (
        GoogleMetadata,
        Node("4521187462195302841", "a2-highgpu-1g", "us-central1-a", "spot"),
    ),
    "azure": (
        AzureMetadata,
        Node(
            "/subscriptions/8d10da13-8125-4ba9-a717-bf7490507b3d/resourcegroups/night_(batch).1/"
            "providers/microsoft.compute/virtualmachines/worker_3",
            "Standard_NC24ads_A100_v4",
            "eastus-1",
            "spot",
        ),
    ),
}
HOST_NAME = f"host:{socket.gethostname()}"
clouds = pytest.mark.parametrize("cloud", sorted(CLOUDS))


def settings(cloud: str, double: MetadataDouble) -> dict[str, str]:
    return {"SPOTMILL_NOTICES": cloud, "SPOTMILL_NOTICE_ENDPOINT": double.url}


@clouds
def test_the_cloud_says_which_node_this_is(cloud: str) -> None:
    make, node = CLOUDS[cloud]
    with make() as double:
        assert node_at_hand(settings(cloud, double)) == node


@clouds
def test_what_was_told_goes_before_what_the_cloud_says(cloud: str) -> None:
    make, node = CLOUDS[cloud]
    with make() as double:
        told = {"SPOTMILL_INSTANCE_TYPE": "laptop", "SPOTMILL_INSTANCE_ZONE": "desk"}
        found = node_at_hand(settings(cloud, double) | told)
        assert found == replace(node, instance_type="laptop", zone="desk")


@clouds
def test_nobody_is_asked_for_what_is_known(cloud: str) -> None:
    make, _ = CLOUDS[cloud]
    with make() as double:
        found = node_at_hand(settings(cloud, double) | TOLD)
        assert double.asked == []
    assert found == Node("box-7", "laptop", "desk", "on-demand")


@pytest.mark.parametrize("notices", [{}, {"SPOTMILL_NOTICES": "none"}])
def test_where_there_is_no_cloud_nobody_is_asked(notices: dict[str, str], tmp_path: Path) -> None:
    began = time.monotonic()
    found = node_at_hand(notices | {"SPOTMILL_INSTANCE_TYPE": "laptop"}, tmp_path)
    assert found == Node(HOST_NAME, "laptop", "unknown", "unknown")
    assert time.monotonic() - began < 0.5


@clouds
@pytest.mark.parametrize("trouble", ["500", "garbage", "hang up", "slow"])
def test_a_service_in_trouble_leaves_the_node_unknown_and_is_not_waited_for(
    cloud: str, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    make, _ = CLOUDS[cloud]
    began = time.monotonic()
    with make() as double, caplog.at_level(logging.WARNING, "spotmill.spot"):
        double.trouble = trouble
        given = settings(cloud, double) | {"SPOTMILL_INSTANCE_TYPE": "laptop"}
        found = node_at_hand(given, patience_seconds=0.4)
        waited = time.monotonic() - began
    assert found == Node(HOST_NAME, "laptop", "unknown", "unknown")
    assert waited < 1.5
    [record] = caplog.records
    assert f"of {cloud} does not say which node this is" in record.getMessage()


@clouds
def test_a_service_that_is_late_is_asked_again(cloud: str) -> None:
    make, node = CLOUDS[cloud]
    with make() as double:
        double.trouble = "503"

        def recover() -> None:
            double.trouble = None

        double.asked = _Watched(recover)
        assert node_at_hand(settings(cloud, double)) == node


class _Watched(list[Asked]):
    """Tells of every request but the first, once it is kept."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def append(self, asked: Asked) -> None:
        super().append(asked)
        if len(self) > 1:
            self._tell()


@pytest.mark.parametrize(
    ("cloud", "key", "name"),
    [
        ("aws", "instance-life-cycle", "lifecycle"),
        ("aws", "placement/availability-zone", "zone"),
        ("google", "machine-type", "instance_type"),
        ("google", "scheduling/preemptible", "lifecycle"),
        ("azure", "vmSize", "instance_type"),
        ("azure", "location", "zone"),
    ],
)
def test_what_a_service_has_no_word_for_is_unknown_at_once_and_the_rest_is_not(
    cloud: str, key: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, node = CLOUDS[cloud]
    with make() as double, caplog.at_level(logging.WARNING, "spotmill.spot"):
        assert isinstance(double, Imds | GoogleMetadata | AzureMetadata)
        del double.about[key]
        began = time.monotonic()
        assert node_at_hand(settings(cloud, double)) == replace(node, **{name: "unknown"})
        assert time.monotonic() - began < 1.0
        [record] = caplog.records
        variable = f"SPOTMILL_INSTANCE_{name.removeprefix('instance_').upper()}"
        assert record.getMessage().endswith(f"all of this node: set {variable}")
        caplog.clear()
        told = {variable: "on-demand" if name == "lifecycle" else "desk"}
        found = node_at_hand(settings(cloud, double) | told)
        assert found == replace(node, **{name: told[variable]})
        assert not caplog.records


@pytest.mark.parametrize("cloud", ["aws", "google"])
def test_a_service_is_asked_for_what_nobody_told_and_no_more(cloud: str) -> None:
    make, node = CLOUDS[cloud]
    with make() as double:
        told = {name: text for name, text in TOLD.items() if not name.endswith("_ID")}
        assert node_at_hand(settings(cloud, double) | told).instance_id == node.instance_id
        paths = [asked.path for asked in double.asked if asked.method == "GET"]
        assert [path.rpartition("/")[2] for path in paths] in (["instance-id"], ["id"])


@pytest.mark.parametrize("lifecycle", ["on-demand", "scheduled", "capacity-block"])
def test_aws_sells_in_other_ways_too(lifecycle: str) -> None:
    with Imds() as imds:
        imds.about["instance-life-cycle"] = lifecycle
        assert node_at_hand(settings("aws", imds)).lifecycle == lifecycle


def test_a_google_vm_that_is_not_preemptible_is_on_demand() -> None:
    with GoogleMetadata() as metadata:
        metadata.about["scheduling/preemptible"] = "FALSE"
        assert node_at_hand(settings("google", metadata)).lifecycle == "on-demand"


@pytest.mark.parametrize(
    ("priority", "lifecycle"),
    [("Regular", "on-demand"), ("", "on-demand"), ("Low", "spot"), ("None", "unknown")],
)
def test_azures_priorities(priority: str, lifecycle: str) -> None:
    with AzureMetadata() as azure:
        azure.about["priority"] = priority
        assert node_at_hand(settings("azure", azure)).lifecycle == lifecycle


def test_an_azure_vm_without_a_zone_is_in_its_location() -> None:
    with AzureMetadata() as azure:
        azure.about["zone"] = ""
        assert node_at_hand(settings("azure", azure)).zone == "eastus"


def test_a_vm_of_a_scale_set_has_a_resource_id_too() -> None:
    of_set = "virtualMachineScaleSets/nodes/virtualMachines/3"
    with AzureMetadata() as azure:
        azure.about["resourceId"] = azure.about["resourceId"].replace(
            "virtualMachines/worker_3", of_set
        )
        assert node_at_hand(settings("azure", azure)).instance_id.endswith(of_set.lower())


@pytest.mark.parametrize(
    "resource", ["/etc/passwd", "/subscriptions/1", "<html><a href='/login'>", "a/b"]
)
def test_what_is_no_resource_of_azures_is_no_instance(resource: str) -> None:
    with AzureMetadata() as azure:
        azure.about["resourceId"] = resource
        found = node_at_hand(settings("azure", azure), patience_seconds=0.3)
    assert found == Node(HOST_NAME, "unknown", "unknown", "unknown")


def test_a_slash_is_part_of_no_other_name() -> None:
    with AzureMetadata() as azure:
        azure.about["vmSize"] = azure.about["resourceId"]
        found = node_at_hand(settings("azure", azure), patience_seconds=0.3)
    assert found == Node(HOST_NAME, "unknown", "unknown", "unknown")


@pytest.mark.parametrize(
    ("written", "lifecycle"),
    [
        ("spot", "spot"),
        ("Spot", "spot"),
        ("SPOT", "spot"),
        ("preemptible", "spot"),
        ("on-demand", "on-demand"),
        ("on_demand", "on-demand"),
        ("On-Demand", "on-demand"),
        ("unknown", "unknown"),
        ("", "unknown"),
    ],
)
def test_terms_are_known_however_they_are_written(written: str, lifecycle: str) -> None:
    told = {"SPOTMILL_NOTICES": "none", "SPOTMILL_INSTANCE_LIFECYCLE": written}
    assert node_at_hand(told).lifecycle == lifecycle


@pytest.mark.parametrize("written", ["ondemand", "reserved", "sport", "spot instance", "true"])
def test_terms_that_nobody_sells_on_are_refused(written: str) -> None:
    told = {"SPOTMILL_NOTICES": "none", "SPOTMILL_INSTANCE_LIFECYCLE": written}
    with pytest.raises(JobInvalid) as refused:
        node_at_hand(told)
    assert refused.value.where == "SPOTMILL_INSTANCE_LIFECYCLE"
    assert "on-demand" in refused.value.hint


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(JobInvalid):
        node_at_hand({"SPOTMILL_NOTICES": "aws", "SPOTMILL_NOTICE_ENDPOINT": "169.254.169.254"})
