"""Fixtures that every kind of test may ask for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.s3 import EXTERNAL_ENDPOINT, S3Bucket, S3Server, empty_and_delete, running_server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 API: `SPOTMILL_TEST_S3_ENDPOINT` with the usual AWS variables, or a local one."""
    with running_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_client(s3_server: S3Server) -> Iterator[Any]:
    client = s3_server.client()
    yield client
    client.close()


@pytest.fixture
def s3_bucket(
    s3_server: S3Server, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Bucket]:
    """A fresh bucket, and an environment in which AWS clients find it by its name alone."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        if s3_server.environment:
            monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    bucket = S3Bucket(f"spotmill-test-{uuid.uuid4().hex[:16]}", s3_server.endpoint_url)
    s3_client.create_bucket(Bucket=bucket.name)
    yield bucket
    if EXTERNAL_ENDPOINT:
        empty_and_delete(s3_client, bucket.name)
