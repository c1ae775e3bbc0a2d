"""EC2's notices, against its metadata service's protocol."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.spot.aws import AwsNotices
from tests.doubles.imds import Imds
from tests.doubles.server import until_told
from tests.doubles.watching import told, watching


def test_nothing_is_announced() -> None:
    with Imds() as imds, watching(AwsNotices(imds.url)) as polled:
        until_told(lambda: len(imds.asked) > 10, 5, "asked again and again")
        assert polled.pending() is None
        assert imds.tokens_given == 1, "one token for all requests"


@pytest.mark.parametrize("action", ["terminate", "stop"])
def test_an_action_is_a_reclaim_within_120_seconds(action: str) -> None:
    with Imds() as imds, watching(AwsNotices(imds.url)) as polled:
        until_told(lambda: len(imds.asked) > 3, 5, "a look without a notice")
        imds.announce(action)
        notice = told(polled)
    assert notice.reason == f"AWS announced: {action}"
    assert notice.seconds is not None
    assert 115.0 < notice.seconds < 120.0, "less the time since the last look, not AWS's clock"


def test_a_hibernation_has_no_time_left() -> None:
    with Imds() as imds, watching(AwsNotices(imds.url)) as polled:
        until_told(lambda: len(imds.asked) > 3, 5, "a look without a notice")
        imds.announce("hibernate")
        assert told(polled).seconds is None


def test_nobody_knows_the_age_of_a_notice_that_was_there_before() -> None:
    with Imds() as imds, watching(AwsNotices(imds.url)) as polled:
        imds.announce()
        assert told(polled).seconds is None


def test_a_promise_shrinks_while_the_service_is_away() -> None:
    now = 0.0
    with Imds() as imds:
        notices = AwsNotices(imds.url, now=lambda: now)
        assert notices.look() is None
        imds.trouble = "500"
        with pytest.raises(Exception, match="500"):
            notices.look()
        imds.trouble = None
        imds.announce()
        now = 50.0
        notice = notices.look()
        notices.close()
    assert notice is not None
    assert notice.seconds == 70.0


def test_a_rebalance_is_a_risk_until_the_reclaim_comes() -> None:
    with Imds() as imds, watching(AwsNotices(imds.url)) as polled:
        imds.recommend_rebalance()
        assert told(polled, kind="risk").seconds is None
        imds.announce()
        notice = told(polled)
    assert notice.seconds is not None


def test_an_expired_token_is_renewed() -> None:
    with Imds() as imds:
        # The poller would wait longer after a failure; the adapter alone shows it sooner.
        notices = AwsNotices(imds.url)
        assert notices.look() is None
        imds.expire_tokens()
        imds.announce()
        with pytest.raises(Exception, match="401"):
            notices.look()
        notice = notices.look()
        notices.close()
    assert notice is not None
    assert imds.tokens_given == 2


def test_an_expired_token_costs_one_pause() -> None:
    with Imds() as imds, watching(AwsNotices(imds.url)) as polled:
        until_told(lambda: len(imds.asked) > 3, 5, "a look without a notice")
        imds.expire_tokens()
        imds.announce()
        assert told(polled, seconds=3.0).kind == "reclaim"


def test_a_notice_is_heard_within_the_interval(
    record_property: Callable[[str, object], None],
) -> None:
    with Imds() as imds:
        notices = AwsNotices(imds.url)
        with watching(notices, notices.interval_seconds) as polled:
            until_told(lambda: len(imds.asked) >= 3, 5, "a look without a notice")
            imds.announce()
            heard_after = until_told(polled.pending, 6, "the notice")
            notice = polled.pending()
    record_property("heard_after_seconds", heard_after)
    assert heard_after < notices.interval_seconds + 1.0
    assert notice is not None
    assert notice.seconds is not None
    assert 110.0 < notice.seconds <= 115.0, "120 less the interval"
