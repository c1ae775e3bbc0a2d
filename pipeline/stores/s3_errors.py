"""What an S3 server, or the way to it, meant by an error: try again, or never mind."""

from __future__ import annotations

import re
from typing import NamedTuple

from aiohttp import ClientError as HttpClientError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from pipeline.core.errors import SpotmillError, StoreDenied, StoreUnavailable

CREDENTIALS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN too, if temporary) or "
    "AWS_PROFILE, or give this machine a role; `anonymous` for public buckets"
)
_PERMISSION_HINT = (
    "allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket here; without "
    "s3:ListBucket S3 says `AccessDenied` where it means that there is no such object"
)
_REGION_HINT = "set AWS_REGION or `region` to the bucket's own region"

_PASSING_STATUS = frozenset({408, 409, 425, 429})
# Codes that come with other statuses on some servers, or with a 400.
_PASSING_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "RequestTimeout",
        "BadDigest",
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
        "OperationAborted",
        "ServiceUnavailable",
        "InternalError",
        "ConditionalRequestConflict",
    }
)
_HINTS = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "InvalidBucketName": "correct the bucket's name",
    "InvalidAccessKeyId": CREDENTIALS_HINT,
    "SignatureDoesNotMatch": CREDENTIALS_HINT,
    "ExpiredToken": f"the temporary credentials have expired; {CREDENTIALS_HINT}",
    "InvalidToken": CREDENTIALS_HINT,
    "TokenRefreshRequired": CREDENTIALS_HINT,
    "RequestTimeTooSkewed": "set this machine's clock",
    "PermanentRedirect": _REGION_HINT,
    "TemporaryRedirect": _REGION_HINT,
    "AuthorizationHeaderMalformed": _REGION_HINT,
    "IllegalLocationConstraintException": _REGION_HINT,
    "EntityTooLarge": "use smaller shards",
    "NotImplemented": "use a store with conditional writes (`If-None-Match: *`)",
}


class Answer(NamedTuple):
    """What the server said. Codes: Amazon S3 API Reference, "Error responses"."""

    status: int
    code: str
    message: str
    bucket_region: str


def answer_in(error: BaseException) -> Answer | None:
    """The server's answer behind an error; None when there was none. s3fs keeps it as a cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, boto.ClientError):
            said = cause.response.get("Error", {})
            about = cause.response.get("ResponseMetadata", {})
            return Answer(
                status=int(about.get("HTTPStatusCode", 0)),
                code=str(said.get("Code", "")),
                message=str(said.get("Message", "") or cause),
                bucket_region=str(about.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")),
            )
        cause = cause.__cause__
    return None


def store_error(error: Exception, where: str) -> SpotmillError | None:
    """The error to raise instead, without credentials in it; None when it is a bug of ours."""
    answer = answer_in(error)
    if answer is not None:
        return _of_answer(answer, where)
    why = _plain(error)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        what = "there are no credentials for the object store"
        return StoreDenied(what, where=where, why=why, hint=CREDENTIALS_HINT)
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in why:
        hint = "set AWS_CA_BUNDLE to the certificates of your endpoint's authority"
        return StoreDenied(
            "the endpoint's certificate is not trusted", where=where, why=why, hint=hint
        )
    if isinstance(error, _PASSING_ERRORS):
        what = "the object store did not answer"
        hint = "check the endpoint, the network and the region"
        return StoreUnavailable(what, where=where, why=why, hint=hint)
    if isinstance(error, boto.BotoCoreError) or why.startswith("Invalid endpoint"):
        what = "the object store's settings make no sense"
        hint = "check the URI, `endpoint_url`, `region` and `profile`"
        return StoreDenied(what, where=where, why=why, hint=hint)
    return None


_PASSING_ERRORS = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    ResponseParserError,
    HttpClientError,
    OSError,  # among them TimeoutError, and fsspec's own
)


def _of_answer(answer: Answer, where: str) -> SpotmillError:
    why = _plain(f"{answer.status} {answer.code}: {answer.message}")
    passing = answer.status in _PASSING_STATUS or answer.code in _PASSING_CODES
    if passing or (answer.status >= 500 and answer.status != 501):
        what = "the object store cannot do this now"
        return StoreUnavailable(what, where=where, why=why, hint="wait, or write less often")
    what = "the object store refuses"
    hint = _HINTS.get(answer.code)
    if hint is None:
        hint = _hint_for_status(answer.status)
    if hint == _REGION_HINT and answer.bucket_region:
        hint = f"{hint}, which is {answer.bucket_region}"
    return StoreDenied(what, where=where, why=why, hint=hint)


def _hint_for_status(status: int) -> str:
    if status in (301, 302, 307):
        return _REGION_HINT
    if status in (401, 403):
        return _PERMISSION_HINT
    if status == 501:
        return _HINTS["NotImplemented"]
    return "check that the endpoint speaks S3, and the bucket's name"


def _plain(error: object) -> str:
    """One line, without a user and password that an endpoint's URL may hold."""
    return re.sub(r"//[^/@\s]*@", "//", " ".join(str(error).split())) or type(error).__name__
