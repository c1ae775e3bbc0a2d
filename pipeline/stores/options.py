"""How to reach object storage, understood alike by s3fs (control objects) and pyarrow (data)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.core.errors import JobInvalid, SpotmillError, StoreDenied, StoreUnavailable
from pipeline.stores.uri import locate

# botocore, s3fs and pyarrow take most of a second to import, which a local run need not pay.
if TYPE_CHECKING:
    from botocore.session import Session
    from pyarrow.fs import FileSystem
    from s3fs import S3FileSystem

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0

# Credentials that pyarrow finds where botocore did, and renews by itself. Others are handed over.
_RENEWED_BY_PYARROW = frozenset({"iam-role", "container-role", "assume-role-with-web-identity"})


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What is None comes from the usual AWS environment variables and profiles."""

    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` is None for Amazon's own, and never holds a user and password; `region` is None when
    only the bucket itself can tell."""

    url: str | None
    region: str | None


def endpoint_for(options: StoreOptions) -> Endpoint:
    """Where these options lead once environment and profile are read. Raises `StoreDenied`."""
    return _endpoint(options, _session(options))


def s3fs_filesystem(options: StoreOptions) -> S3FileSystem:
    """A new s3fs instance that sends every request once and remembers no listing.

    Usable from any thread, but only in the process that made it. Raises `StoreDenied`.
    """
    from s3fs import S3FileSystem

    from pipeline.stores.one_attempt import OneAttemptSession

    endpoint = endpoint_for(options)
    filesystem = S3FileSystem(
        anon=options.anonymous,
        endpoint_url=endpoint.url,
        client_kwargs={"region_name": endpoint.region} if endpoint.region else {},
        config_kwargs={
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "http_session_cls": OneAttemptSession,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "max_pool_connections": 32,
            **({"s3": {"addressing_style": "path"}} if endpoint.url else {}),
        },
        use_listings_cache=False,
        # An instance from fsspec's cache could be somebody else's, who wants retries.
        skip_instance_cache=True,
        **({"profile": options.profile} if options.profile else {}),
    )
    filesystem.retries = 1
    return filesystem


def arrow_filesystem(uri: str, options: StoreOptions) -> tuple[FileSystem, str]:
    """A pyarrow file system and the path in it, for `s3://`, `file://` and plain paths.

    Ask again for every file opened: some temporary credentials are handed over as they are now.
    Raises `JobInvalid`, `StoreDenied`, and `StoreUnavailable` when it has to ask for a region.
    """
    from pyarrow import fs

    location = locate(uri)
    if location.scheme == "memory":
        raise JobInvalid(f"no Parquet can be read from {uri!r}", hint="use a directory")
    if location.scheme == "file":
        return fs.LocalFileSystem(), location.path
    session = _session(options)
    endpoint = _endpoint(options, session)
    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "request_timeout": READ_SECONDS,
        "tls_ca_file_path": os.environ.get("AWS_CA_BUNDLE"),
        "region": endpoint.region or _region_of_bucket(location.path.partition("/")[0]),
        **_arrow_credentials(uri, options, session),
    }
    if endpoint.url:
        parts = urlsplit(endpoint.url)
        settings["scheme"] = parts.scheme
        settings["endpoint_override"] = f"{parts.netloc}{parts.path.rstrip('/')}"
    return fs.S3FileSystem(**settings), location.path


def _session(options: StoreOptions) -> Session:
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    session = Session(profile=options.profile)
    try:
        session.get_scoped_config()
    except BotoCoreError as error:
        raise StoreDenied(
            "the AWS configuration cannot be read",
            why=str(error),
            hint="correct `profile` or AWS_PROFILE, or ~/.aws/config",
        ) from error
    return session


def _endpoint(options: StoreOptions, session: Session) -> Endpoint:
    written = options.endpoint_url or _configured_endpoint(session)
    url = None if written is None else _web_address(written)
    # botocore knows AWS_DEFAULT_REGION and the profile's region, but not AWS_REGION.
    region = options.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    return Endpoint(url, region or ("us-east-1" if url else None))


def _web_address(written: str) -> str:
    """Without user and password: requests are signed and never send them, messages would."""
    try:
        parts = urlsplit(written)
        # A port that is no number is only found out about when it is asked for.
        sound = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        # Not by its parts, which a secret with a slash in it upsets.
        shown = re.sub(r"^([A-Za-z0-9+.-]+://)?.*@", r"\1", written, flags=re.DOTALL)
        raise StoreDenied(
            f"the endpoint {shown!r} is no web address",
            hint="write https://host or http://host:port",
        )
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _configured_endpoint(session: Session) -> str | None:
    """botocore's own order (AWS SDKs and Tools Reference Guide, "Service-specific endpoints")."""
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    found = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or services.get("s3", {}).get("endpoint_url")
        or profile.get("endpoint_url")
    )
    return str(found) if found else None


def _region_of_bucket(bucket: str) -> str:
    from pyarrow.fs import resolve_s3_region

    try:
        return str(resolve_s3_region(bucket))
    except OSError as error:
        raise StoreUnavailable(
            "the bucket's region cannot be found out",
            where=f"s3://{bucket}",
            why=str(error),
            hint="set AWS_REGION or `region`, or AWS_ENDPOINT_URL for another cloud",
        ) from error


def _arrow_credentials(uri: str, options: StoreOptions, session: Session) -> dict[str, Any]:
    from botocore.exceptions import BotoCoreError

    from pipeline.stores.s3_errors import CREDENTIALS_HINT, store_error

    if options.anonymous:
        return {"anonymous": True}
    try:
        found = session.get_credentials()
        if found is not None and found.method in _RENEWED_BY_PYARROW:
            return {}
        frozen = found and found.get_frozen_credentials()
    except BotoCoreError as error:
        explained: SpotmillError | None = store_error(error, uri)
        raise explained or error from error
    if not frozen:
        what = "there are no credentials for the object store"
        raise StoreDenied(what, where=uri, hint=CREDENTIALS_HINT)
    return {
        "access_key": frozen.access_key,
        "secret_key": frozen.secret_key,
        "session_token": frozen.token,
    }
