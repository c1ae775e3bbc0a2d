"""From a URI and the AWS environment to a store, and to the same place for pyarrow."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from pipeline.core.errors import JobInvalid, StoreDenied
from pipeline.stores import StoreOptions, open_store
from pipeline.stores.options import arrow_filesystem, endpoint_for
from pipeline.stores.uri import Location, locate
from tests.s3 import EXTERNAL_ENDPOINT, S3Bucket, S3Server, dummy_environment


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("/data/out/", Location("file", "/data/out")),
        ("file:///data/my%20answers", Location("file", "/data/my answers")),
        ("file://localhost/data", Location("file", "/data")),
        ("s3://lake/answers/run=1/", Location("s3", "lake/answers/run=1")),
        ("S3://lake", Location("s3", "lake")),
        ("memory://a/b", Location("memory", "a/b")),
    ],
)
def test_a_uri_is_read_one_way(uri: str, location: Location) -> None:
    assert locate(uri) == location


@pytest.mark.parametrize(
    "uri",
    ["", " ", "gs://lake/a", "https://host/a", "s3:/lake/a", "s3://", "s3:///a", "file://host/a"],
)
def test_other_uris_are_refused_with_a_hint(uri: str) -> None:
    with pytest.raises(JobInvalid, match="s3://bucket/prefix"):
        open_store(uri, StoreOptions())
    with pytest.raises(JobInvalid):
        arrow_filesystem(uri, StoreOptions())


@pytest.mark.parametrize(
    "uri",
    ["s3://key:hunter2@lake/a", "https://lake.s3/a?X-Amz-Signature=hunter2", "gs://k:hunter2@l"],
)
def test_what_a_uri_should_not_hold_is_not_repeated(uri: str) -> None:
    with pytest.raises(JobInvalid) as refused:
        locate(uri)
    assert "hunter2" not in str(refused.value)


def test_a_path_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("output", StoreOptions())
    monkeypatch.chdir("/")
    assert store.create("data/run=1/part-00000.parquet", b"rows")
    assert (tmp_path / "output/data/run=1/part-00000.parquet").read_bytes() == b"rows"
    assert open_store(f"file://{tmp_path}/output", StoreOptions()).list("data/") == [
        "data/run=1/part-00000.parquet"
    ]


def test_one_memory_uri_is_one_store() -> None:
    open_store("memory://one", StoreOptions()).put("key", b"body")
    assert open_store("memory://one/", StoreOptions()).get("key") == b"body"
    assert open_store("memory://two", StoreOptions()).get("key") is None


@pytest.mark.parametrize("explicit", [True, False], ids=["options", "environment"])
def test_stores_and_pyarrow_meet_in_a_bucket(s3_bucket: S3Bucket, explicit: bool) -> None:
    options = s3_bucket.options if explicit else StoreOptions()
    uri = f"{s3_bucket.uri}/answers/"
    filesystem, path = arrow_filesystem(uri, options)
    table = pa.table({"prompt": ["one", "two"]})
    pq.write_table(table, f"{path}/data/part-00000.parquet", filesystem=filesystem)
    store = open_store(uri, options)
    assert store.list("") == ["data/part-00000.parquet"]
    store.put("data/part-00001.parquet", store.get("data/part-00000.parquet") or b"")
    assert pq.read_table(f"{path}/data/part-00001.parquet", filesystem=filesystem) == table


def test_pyarrow_reads_local_paths(tmp_path: Path) -> None:
    open_store(str(tmp_path), StoreOptions()).put("a/b", b"body")
    filesystem, path = arrow_filesystem(str(tmp_path), StoreOptions())
    assert isinstance(filesystem, fs.LocalFileSystem)
    with filesystem.open_input_file(f"{path}/a/b") as file:
        assert file.read() == b"body"


def test_a_profile_serves_both(
    s3_bucket: S3Bucket, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if EXTERNAL_ENDPOINT:
        pytest.skip("the profile holds dummy credentials")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    (tmp_path / "credentials").write_text(
        "[lake]\naws_access_key_id=testing\naws_secret_access_key=testing\n"
    )
    (tmp_path / "config").write_text(
        "[profile lake]\nregion=us-east-1\nservices=here\n"
        f"[services here]\ns3 =\n  endpoint_url={s3_server.endpoint_url}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    options = StoreOptions(profile="lake")
    open_store(s3_bucket.uri, options).put("key", b"body")
    filesystem, path = arrow_filesystem(s3_bucket.uri, options)
    with filesystem.open_input_file(f"{path}/key") as file:
        assert file.read() == b"body"


def test_pyarrow_without_credentials_is_denied_with_a_hint(
    s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreDenied, match="AWS_ACCESS_KEY_ID"):
        arrow_filesystem(s3_bucket.uri, StoreOptions())


@pytest.mark.parametrize(
    ("environment", "url", "region"),
    [
        ({}, None, "us-east-1"),
        ({"AWS_REGION": "eu-west-1"}, None, "eu-west-1"),
        ({"AWS_ENDPOINT_URL": "http://any"}, "http://any", "us-east-1"),
        ({"AWS_ENDPOINT_URL": "http://any", "AWS_ENDPOINT_URL_S3": "http://s3"}, "http://s3", None),
        (
            {"AWS_ENDPOINT_URL": "http://any", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            None,
            None,
        ),
    ],
)
def test_the_environment_is_read_as_amazon_says(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    url: str | None,
    region: str | None,
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**dummy_environment(tmp_path), **environment}.items():
        monkeypatch.setenv(name, value)
    found = endpoint_for(StoreOptions())
    assert found.url == url
    assert found.region == (region or "us-east-1")
