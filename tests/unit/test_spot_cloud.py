"""Which cloud is listened to, from when to when, and what it is told at the end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.core.errors import EngineDied, Interrupted, JobInvalid
from pipeline.diagnosis import diagnosis
from pipeline.spot.cloud import Cloud, cloud_at_hand, cloud_chosen, cloud_notice
from pipeline.spot.housemates import Housemates
from pipeline.spot.signals import NoNotice
from tests.doubles.azure_metadata import AzureMetadata
from tests.doubles.google_metadata import GoogleMetadata
from tests.doubles.server import until_told

# As these machines have it, to the newline.
FIRMWARE: dict[str, dict[str, str]] = {
    "nitro": {"sys_vendor": "Amazon EC2", "product_name": "g6.xlarge", "bios_vendor": "Amazon EC2"},
    "xen": {"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"},
    "google": {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
    "azure": {
        "sys_vendor": "Microsoft Corporation",
        "product_name": "Virtual Machine",
        "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77",
    },
    "hyper-v": {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"},
    "chromebook": {"sys_vendor": "Google", "product_name": "Kled"},
    "qemu": {"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)"},
    "nothing": {},
}


@pytest.fixture
def dmi(tmp_path: Path) -> Path:
    return tmp_path / "dmi"


def write_firmware(dmi: Path, machine: str) -> None:
    dmi.mkdir()
    for name, text in FIRMWARE[machine].items():
        (dmi / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("machine", "cloud"),
    [
        ("nitro", "aws"),
        ("xen", "aws"),
        ("google", "google"),
        ("azure", "azure"),
        ("hyper-v", None),
        ("chromebook", None),
        ("qemu", None),
        ("nothing", None),
    ],
)
def test_firmware_tells_the_cloud(machine: str, cloud: Cloud | None, dmi: Path) -> None:
    write_firmware(dmi, machine)
    assert cloud_at_hand(dmi) == cloud
    assert cloud_chosen({}, dmi) == cloud
    assert cloud_chosen({"SPOTMILL_NOTICES": "auto"}, dmi) == cloud


def test_unreadable_firmware_tells_nothing(dmi: Path) -> None:
    assert cloud_at_hand(dmi) is None
    dmi.mkdir()
    (dmi / "sys_vendor").mkdir()
    (dmi / "product_name").write_bytes(b"\xff\xfe")
    assert cloud_at_hand(dmi) is None


def test_a_choice_goes_before_the_firmware(dmi: Path) -> None:
    write_firmware(dmi, "nitro")
    assert cloud_chosen({"SPOTMILL_NOTICES": "none"}, dmi) is None
    assert cloud_chosen({"SPOTMILL_NOTICES": "azure"}, dmi) == "azure"


@pytest.mark.parametrize("choice", ["AWS", "gcp", "on", "aws,google"])
def test_an_unknown_choice_is_refused(choice: str, dmi: Path) -> None:
    with pytest.raises(JobInvalid, match="auto, none, aws, google, azure") as refused:
        cloud_chosen({"SPOTMILL_NOTICES": choice}, dmi)
    assert refused.value.where == "SPOTMILL_NOTICES"
    assert refused.value.exit_code == 2


def test_an_endpoint_that_is_no_url_is_refused(dmi: Path) -> None:
    given = {"SPOTMILL_NOTICES": "aws", "SPOTMILL_NOTICE_ENDPOINT": "169.254.169.254"}
    with pytest.raises(JobInvalid, match="no base URL"), cloud_notice(given, dmi):
        pass


def test_without_a_cloud_nobody_listens(dmi: Path) -> None:
    threads = threading.active_count()
    with cloud_notice({}, dmi) as notice:
        assert isinstance(notice, NoNotice)
        assert threading.active_count() == threads


def test_a_cloud_is_listened_to_while_the_context_lasts(dmi: Path) -> None:
    with GoogleMetadata() as metadata:
        given = {"SPOTMILL_NOTICES": "google", "SPOTMILL_NOTICE_ENDPOINT": metadata.url}
        with cloud_notice(given, dmi) as notice:
            until_told(lambda: metadata.hanging, 5, "a hanging request")
            assert notice.pending() is None
            metadata.preempt()
            until_told(notice.pending, 1, "the notice")
        until_told(lambda: not listening(), 5, "the thread's end")


def listening() -> bool:
    return any(thread.name.startswith("notices-") for thread in threading.enumerate())


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AzureMetadata:
    """A machine of this test's own, as far as its workers can see."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return AzureMetadata()


def azure_settings(azure: AzureMetadata) -> dict[str, str]:
    return {"SPOTMILL_NOTICES": "azure", "SPOTMILL_NOTICE_ENDPOINT": azure.url}


def test_azure_is_told_when_the_drain_is_done(azure: AzureMetadata) -> None:
    with azure:
        with pytest.raises(Interrupted), cloud_notice(azure_settings(azure)) as notice:
            event = azure.schedule("Preempt")
            until_told(notice.pending, 5, "the notice")
            assert azure.acknowledged == [], "still draining"
            raise Interrupted("drained")
        assert azure.acknowledged == [event]


def test_azure_is_told_when_the_work_is_done(azure: AzureMetadata) -> None:
    with azure:
        with cloud_notice(azure_settings(azure)) as notice:
            event = azure.schedule("Preempt")
            until_told(notice.pending, 5, "the notice")
        assert azure.acknowledged == [event]


def test_azure_is_not_told_by_a_worker_that_failed(azure: AzureMetadata) -> None:
    with azure:
        with pytest.raises(EngineDied), cloud_notice(azure_settings(azure)) as notice:
            azure.schedule("Preempt")
            until_told(notice.pending, 5, "the notice")
            raise EngineDied("in the middle of it")
        assert azure.acknowledged == []


def test_azure_is_not_told_in_a_pod(azure: AzureMetadata) -> None:
    with azure:
        pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        with cloud_notice(azure_settings(azure) | pod) as notice:
            azure.schedule("Preempt")
            until_told(notice.pending, 5, "the notice")
        assert azure.acknowledged == []


def test_azure_is_told_by_the_last_worker_of_a_machine(azure: AzureMetadata) -> None:
    with azure:
        with cloud_notice(azure_settings(azure)) as first:
            with cloud_notice(azure_settings(azure)) as second:
                event = azure.schedule("Preempt")
                until_told(lambda: first.pending() and second.pending(), 5, "both told")
            assert azure.acknowledged == []
        assert azure.acknowledged == [event]


def test_a_lock_file_that_cannot_be_had_is_as_good_as_company(
    azure: AzureMetadata, tmp_path: Path
) -> None:
    (tmp_path / "spotmill-workers.lock").mkdir()
    with azure:
        with cloud_notice(azure_settings(azure)) as notice:
            azure.schedule("Preempt")
            until_told(notice.pending, 5, "the notice")
        assert azure.acknowledged == []


def test_of_housemates_the_last_one_knows_it(tmp_path: Path) -> None:
    one, other = Housemates(tmp_path / "lock"), Housemates(tmp_path / "lock")
    assert not one.all_gone()
    assert other.all_gone(), "the one that asked has given up its place"
    one.close()
    other.close()


def test_a_worker_listens_to_its_cloud_with_and_without_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with GoogleMetadata() as metadata:
        monkeypatch.setenv("SPOTMILL_NOTICES", "google")
        monkeypatch.setenv("SPOTMILL_NOTICE_ENDPOINT", metadata.url)
        metadata.preempt()
        with wiring.worker_notice(signals=False) as notice:
            until_told(notice.pending, 5, "the notice")
        assert diagnosis()["notices"] == "google"
