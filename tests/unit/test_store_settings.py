"""What an environment says about stores: nonsense is refused in words, and secrets stay unsaid."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipeline.core.errors import JobInvalid, StoreDenied
from pipeline.stores.options import StoreOptions, arrow_filesystem, endpoint_for
from pipeline.stores.retry import RetryPolicy


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing of this machine's own AWS settings."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return monkeypatch


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_is_known_without_its_user_and_password(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(name, "http://key:hunter2@host:9000/base")
    assert endpoint_for(StoreOptions()).url == "http://host:9000/base"
    explicit = StoreOptions(endpoint_url="https://key:hunter2@other")
    assert endpoint_for(explicit).url == "https://other"
    filesystem, _ = arrow_filesystem("s3://bucket/key", StoreOptions())
    assert "hunter2" not in repr(filesystem.__reduce__())


@pytest.mark.parametrize(
    "endpoint",
    [
        "key:hunter2@host:9000",
        "ftp://key:hunter2@host",
        "https://key:hun/ter2@host",
        "https://key:hun?ter2@host",
        "https://[key:hunter2@host",
        "https://key:hun\nter2@host:99999999",
    ],
)
def test_an_endpoint_that_is_none_is_refused_without_its_secret(
    environment: pytest.MonkeyPatch, endpoint: str
) -> None:
    environment.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StoreDenied, match="is no web address") as refused:
        endpoint_for(StoreOptions())
    assert "ter2" not in str(refused.value)
    assert "host" in refused.value.what


@pytest.mark.parametrize("given", ["a minute", "", "60s", "nan", "-1"])
def test_a_patience_that_is_no_number_is_refused_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("SPOTMILL_STORE_SECONDS", given)
    with pytest.raises(JobInvalid, match="is no number of seconds") as refused:
        RetryPolicy()
    assert refused.value.where == "SPOTMILL_STORE_SECONDS"
    assert refused.value.hint


@pytest.mark.parametrize("given", ["0", "2.5", "inf"])
def test_any_patience_is_taken(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("SPOTMILL_STORE_SECONDS", given)
    stop = RetryPolicy().stop
    assert math.isclose(vars(stop)["max_delay"], float(given))
