"""Google's notices, against its metadata server's protocol."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.spot.google import GoogleNotices
from tests.doubles.google_metadata import GoogleMetadata
from tests.doubles.server import until_told
from tests.doubles.watching import told, watching


def test_nothing_is_announced_while_requests_hang() -> None:
    with GoogleMetadata() as metadata, watching(GoogleNotices(metadata.url)) as polled:
        until_told(lambda: metadata.hanging, 5, "a hanging request")
        assert polled.pending() is None
        assert len(metadata.asked) == 2, "one for the ETag, one that hangs"
        assert metadata.asked[1].query["timeout_sec"] == "60"


def test_a_preemption_is_heard_at_once_through_a_hanging_request(
    record_property: Callable[[str, object], None],
) -> None:
    with GoogleMetadata() as metadata:
        notices = GoogleNotices(metadata.url)
        with watching(notices, notices.interval_seconds) as polled:
            until_told(lambda: metadata.hanging, 5, "a hanging request")
            metadata.preempt()
            heard_after = until_told(polled.pending, 5, "the notice")
            notice = told(polled)
    record_property("heard_after_seconds", heard_after)
    assert heard_after < 1.0
    assert notice.reason == "Google preempts this VM"
    assert notice.seconds is not None
    assert 25.0 < notice.seconds <= 30.0


def test_a_preemption_between_two_requests_is_heard_by_the_next() -> None:
    now = 100.0
    with GoogleMetadata() as metadata:
        notices = GoogleNotices(metadata.url, now=lambda: now)
        assert notices.look() is None
        metadata.preempt()
        now = 110.0
        notice = notices.look()
        notices.close()
        assert metadata.hanging == 0
    assert notice is not None
    assert notice.seconds == 20.0, "it may have been given ten seconds before"


def test_a_request_that_hangs_to_its_end_is_followed_by_another() -> None:
    with GoogleMetadata() as metadata:
        metadata.longest_wait_seconds = 0.1
        with watching(GoogleNotices(metadata.url)) as polled:
            until_told(lambda: len(metadata.asked) > 5, 5, "asked again and again")
            assert polled.pending() is None
            metadata.preempt()
            notice = told(polled)
    assert notice.seconds is not None
    assert 25.0 < notice.seconds <= 30.0


def test_nobody_knows_the_age_of_a_preemption_that_was_there_before() -> None:
    with GoogleMetadata() as metadata:
        metadata.preempt()
        with watching(GoogleNotices(metadata.url)) as polled:
            assert told(polled).seconds is None
