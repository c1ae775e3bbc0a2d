"""Servers that misbehave, for the tests of what is made of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.canned import CannedServer, canned_server
from tests.s3 import LossyProxy, S3Bucket, dummy_environment


@pytest.fixture
def aws_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in dummy_environment(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def canned(aws_environment: None) -> Iterator[CannedServer]:
    with canned_server() as server:
        yield server


@pytest.fixture
def proxy(s3_bucket: S3Bucket) -> Iterator[LossyProxy]:
    if not s3_bucket.endpoint_url.startswith("http://"):
        pytest.skip("the proxy speaks plain HTTP")
    proxy = LossyProxy(s3_bucket.endpoint_url)
    yield proxy
    proxy.close()
