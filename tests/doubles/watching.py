"""A watched cloud, as a worker has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.notice import Notice
from pipeline.spot.cloud import CloudNotices
from pipeline.spot.polling import PolledNotice
from tests.doubles.server import until_told


@contextmanager
def watching(notices: CloudNotices, interval_seconds: float = 0.05) -> Iterator[PolledNotice]:
    """Asked more often than in earnest, so that tests are quick."""
    polled = PolledNotice(notices.name, notices.look, interval_seconds, notices.close)
    polled.start()
    try:
        yield polled
    finally:
        polled.close()


def told(polled: PolledNotice, seconds: float = 5.0, kind: str = "reclaim") -> Notice:
    """The notice, once it is of this kind."""

    def is_told() -> bool:
        notice = polled.pending()
        return notice is not None and notice.kind == kind

    until_told(is_told, seconds, f"a notice of kind {kind}")
    notice = polled.pending()
    assert notice is not None
    return notice
