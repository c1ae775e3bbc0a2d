"""What is made of the answers of an S3 server: try again, never mind, or somebody else won."""

from __future__ import annotations

import pytest

from pipeline.core.errors import StoreDenied, StoreUnavailable
from pipeline.stores import StoreOptions
from pipeline.stores.s3 import S3Store
from tests.contracts.canned import CannedServer, canned_store
from tests.s3 import free_port


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "RequestTimeout", "RequestTimeout"),
        (400, "BadDigest", "BadDigest"),
        (429, "TooManyRequests", "429"),
        (500, "InternalError", "the server's own words"),
        (502, "", "502"),
        (503, "SlowDown", "write less often"),
        (503, "ServiceUnavailable", "503"),
        (504, "", "504"),
    ],
)
def test_what_may_pass_is_unavailable_and_asked_once(
    canned: CannedServer, status: int, code: str, words: str
) -> None:
    canned.says(status, code)
    store = canned_store(canned)
    for use in (
        lambda: store.get("key"),
        lambda: store.put("key", b"body"),
        lambda: store.create("key", b"body"),
        lambda: store.list(""),
        lambda: store.delete("key"),
    ):
        with pytest.raises(StoreUnavailable, match=words):
            use()
    assert canned.requests == ["GET", "PUT", "PUT", "GET", "DELETE"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, "ExpiredToken", "AWS_SESSION_TOKEN"),
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "", "s3:GetObject"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", "clock"),
        (404, "NoSuchBucket", "create the bucket"),
        (404, "", "speaks S3"),
        (405, "MethodNotAllowed", "speaks S3"),
        (501, "NotImplemented", "conditional writes"),
    ],
)
def test_what_will_not_pass_is_denied_with_a_hint(
    canned: CannedServer, status: int, code: str, words: str
) -> None:
    canned.says(status, code)
    store = canned_store(canned)
    for use in (
        lambda: store.get("key"),
        lambda: store.create("key", b"body"),
        lambda: store.list(""),
    ):
        with pytest.raises(StoreDenied, match=words):
            use()
    assert canned.requests == ["GET", "PUT", "GET"]


def test_a_web_page_is_no_object_store(canned: CannedServer) -> None:
    canned.status, canned.body = 404, b"<html><body>Not found</body></html>"
    with pytest.raises((StoreDenied, StoreUnavailable), match="s3://a-bucket/answers/key"):
        canned_store(canned).get("key")


def test_the_wrong_region_is_named(canned: CannedServer) -> None:
    canned.says(301, "PermanentRedirect", "<Region>eu-north-1</Region>")
    canned.headers["x-amz-bucket-region"] = "eu-north-1"
    with pytest.raises(StoreDenied, match="which is eu-north-1"):
        canned_store(canned).get("key")


@pytest.mark.parametrize("more", ["", "<Condition>If-None-Match</Condition>"])
def test_a_failed_condition_is_a_lost_race_however_it_is_worded(
    canned: CannedServer, more: str
) -> None:
    canned.says(412, "PreconditionFailed", more)
    assert canned_store(canned).create("key", b"body") is False


def test_a_conflict_is_lost_only_if_somebody_won(canned: CannedServer) -> None:
    canned.says(409, "ConditionalRequestConflict")
    canned.heads = 200
    assert canned_store(canned).create("key", b"body") is False
    canned.heads = 404
    with pytest.raises(StoreUnavailable, match="ConditionalRequestConflict"):
        canned_store(canned).create("key", b"body")
    assert canned.requests == ["PUT", "HEAD"] * 2


def test_missing_credentials_are_denied_with_a_hint(
    canned: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="AWS_ACCESS_KEY_ID"):
        canned_store(canned).get("key")
    assert not canned.requests


def test_anonymous_needs_no_credentials(
    canned: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    canned.body = b"public"
    settings = StoreOptions(endpoint_url=canned.endpoint_url, anonymous=True)
    assert S3Store("a-bucket", settings).get("key") == b"public"


def test_a_missing_profile_is_denied_with_a_hint(canned: CannedServer) -> None:
    settings = StoreOptions(endpoint_url=canned.endpoint_url, profile="nobody")
    with pytest.raises(StoreDenied, match=r"nobody[\s\S]*AWS_PROFILE"):
        S3Store("a-bucket", settings).get("key")


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http://", "http://not a host"])
def test_an_impossible_endpoint_is_denied(aws_environment: None, endpoint: str) -> None:
    with pytest.raises(StoreDenied, match="endpoint"):
        S3Store("a-bucket", StoreOptions(endpoint_url=endpoint)).get("key")


def test_no_credentials_in_messages(canned: CannedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOURKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "oursecret")
    canned.says(403, "SignatureDoesNotMatch")
    told = []
    host = canned.endpoint_url.removeprefix("http://")
    for endpoint in (
        f"http://user:oursecret@{host}",
        f"http://user:oursecret@127.0.0.1:{free_port()}",
    ):
        with pytest.raises((StoreDenied, StoreUnavailable)) as failed:
            S3Store("a-bucket", StoreOptions(endpoint_url=endpoint)).put("key", b"")
        told.append(str(failed.value))
    assert not any("oursecret" in text or "AKIAOURKEY" in text for text in told), told
