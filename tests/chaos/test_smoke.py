"""A minute of what `make chaos` does for twenty: real processes, a real S3 API, real kills."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.field import Field
from tests.chaos.schedule import smoke
from tests.s3 import S3Bucket, S3Server


def test_rows_are_published_once_through_kills_freezes_and_outages(
    s3_server: S3Server, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    outcome = Field(s3_server, s3_bucket, tmp_path).fight(smoke(seed=1))
    assert outcome.faults == [], (tmp_path / "smoke-1/log").read_text()
    assert outcome.rows is not None
    assert outcome.rows.published == 500
    # Nine are meant; on a busy machine a moment may pass before there is anybody to kill.
    assert outcome.killed >= 3
