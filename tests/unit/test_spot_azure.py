"""Azure's notices, against its metadata service's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pipeline.spot.azure import AzureNotices
from tests.doubles.azure_metadata import AzureMetadata
from tests.doubles.server import until_told
from tests.doubles.watching import told, watching


def test_nothing_is_announced() -> None:
    with AzureMetadata() as metadata, watching(AzureNotices(metadata.url)) as polled:
        until_told(lambda: len(metadata.asked) > 10, 5, "asked again and again")
        assert polled.pending() is None
        names = [asked for asked in metadata.asked if asked.path.endswith("/compute")]
        assert len(names) == 1, "a VM keeps its name"


@pytest.mark.parametrize(("kind", "promised"), [("Preempt", 30.0), ("Terminate", 300.0)])
def test_the_end_of_this_vm_is_a_reclaim(kind: str, promised: float) -> None:
    with AzureMetadata() as metadata, watching(AzureNotices(metadata.url)) as polled:
        until_told(lambda: len(metadata.asked) > 2, 5, "a look without a notice")
        metadata.schedule(kind)
        notice = told(polled)
    assert notice.reason == f"Azure announced: {kind}"
    assert notice.seconds is not None
    assert promised - 5.0 < notice.seconds < promised


@pytest.mark.parametrize(
    ("kind", "resources"),
    [
        ("Freeze", None),
        ("Reboot", None),
        ("Redeploy", None),
        ("Preempt", ["worker_4"]),
        ("Preempt", ["worker_33", "worker_1"]),
        ("Preempt", []),
        ("Terminate", ["worker_4"]),
    ],
)
def test_other_events_and_other_vms_are_no_notice(
    kind: str, resources: Sequence[str] | None
) -> None:
    with AzureMetadata() as metadata:
        notices = AzureNotices(metadata.url)
        assert notices.look() is None
        metadata.schedule(kind, resources)
        assert notices.look() is None
        metadata.schedule("Preempt", ["WORKER_3"])
        assert notices.look() is not None, "its own, behind the other, in whatever case"
        notices.close()


def test_a_preemption_that_has_started_has_no_time_left() -> None:
    with AzureMetadata() as metadata, watching(AzureNotices(metadata.url)) as polled:
        until_told(lambda: len(metadata.asked) > 2, 5, "a look without a notice")
        metadata.schedule("Preempt", status="Started")
        assert told(polled, kind="stop").seconds is None


def test_a_preemption_that_another_vm_approves_leaves_no_time_either() -> None:
    with AzureMetadata() as metadata, watching(AzureNotices(metadata.url)) as polled:
        event = metadata.schedule("Preempt", ["worker_3", "worker_4"])
        assert told(polled).reason == "Azure announced: Preempt"
        metadata.start(event)
        assert told(polled, kind="stop").reason == "Azure has begun: Preempt"


def test_the_first_answer_may_take_longer_than_the_others() -> None:
    with AzureMetadata() as metadata:
        metadata.first_seconds = 0.5
        with watching(AzureNotices(metadata.url, answer_seconds=0.2)) as polled:
            assert polled.pending() is None
            until_told(lambda: len(metadata.asked) > 5, 5, "the first answer and more")
            assert len([asked for asked in metadata.asked if asked.path.endswith("/compute")]) == 1
            metadata.schedule("Preempt")
            assert told(polled).seconds is not None


def test_an_event_is_acknowledged_when_told_to_and_not_before() -> None:
    with AzureMetadata() as metadata:
        notices = AzureNotices(metadata.url)
        notices.acknowledge()
        assert notices.look() is None
        event = metadata.schedule("Preempt")
        assert notices.look() is not None
        assert metadata.acknowledged == []
        notices.acknowledge()
        assert metadata.acknowledged == [event]
        notices.close()


@pytest.mark.parametrize("others", [True, False])
def test_an_event_that_others_share_is_not_acknowledged(others: bool) -> None:
    with AzureMetadata() as metadata:
        notices = AzureNotices(metadata.url, alone=lambda: others)
        metadata.schedule("Preempt", ["worker_3", "worker_4"] if others else None)
        assert notices.look() is not None
        notices.acknowledge()
        assert metadata.acknowledged == []
        notices.close()


def test_an_acknowledgement_that_fails_is_left_at_that() -> None:
    with AzureMetadata() as metadata:
        notices = AzureNotices(metadata.url)
        metadata.schedule("Preempt")
        assert notices.look() is not None
        metadata.trouble = "500"
        notices.acknowledge()
        metadata.trouble = "hang up"
        notices.acknowledge()
        notices.close()
    notices.acknowledge()


def test_a_notice_is_heard_within_the_interval(
    record_property: Callable[[str, object], None],
) -> None:
    with AzureMetadata() as metadata:
        notices = AzureNotices(metadata.url)
        with watching(notices, notices.interval_seconds) as polled:
            until_told(lambda: len(metadata.asked) >= 2, 5, "a look without a notice")
            metadata.schedule("Preempt")
            heard_after = until_told(polled.pending, 5, "the notice")
            notice = told(polled)
    record_property("heard_after_seconds", heard_after)
    assert heard_after < notices.interval_seconds + 1.0
    assert notice.seconds is not None
    assert 25.0 < notice.seconds <= 29.0
