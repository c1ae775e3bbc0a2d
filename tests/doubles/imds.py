"""EC2's instance metadata service, version 2, as far as a spot instance asks it.

Written after https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ pages
`instancedata-data-retrieval.html`, `instance-metadata-returns.html`,
`instancedata-data-categories.html`, `spot-instance-termination-notices.html` and
`rebalance-recommendations.html`.
"""

from __future__ import annotations

import json
import secrets
import time

from tests.doubles.server import Answer, Asked, MetadataDouble

_LONGEST_TTL_SECONDS = 21_600
# No clock of ours: nobody may take the difference.
_ANOTHER_CLOCK = "2031-01-05T18:02:00Z"


class Imds(MetadataDouble):
    """Version 1 is off (`HttpTokens: required`). Tokens live for what was asked, or less."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.token_seconds = float(_LONGEST_TTL_SECONDS)
        self._tokens: dict[str, float] = {}
        self._action: str | None = None
        self._rebalance = False
        self.about = {
            "instance-id": "i-0b22a22eec53b9321",
            "instance-type": "g6.xlarge",
            "placement/availability-zone": "us-east-1a",
            "placement/availability-zone-id": "use1-az4",
            "instance-life-cycle": "spot",
        }
        """What it says of the instance, by path; what is taken out is not found."""

    def recommend_rebalance(self) -> None:
        self._rebalance = True

    def give_role(self, key_id: str) -> None:
        """The instance has a profile, whose keys these are."""
        role = "iam/security-credentials/"
        self.about[role] = "workers"
        self.about[f"{role}workers"] = json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": _ANOTHER_CLOCK,
                "AccessKeyId": key_id,
                "SecretAccessKey": "a-secret-of-a-role",
                "Token": "a-token-of-a-role",
                "Expiration": _ANOTHER_CLOCK,
            }
        )

    def announce(self, action: str = "terminate") -> None:
        self._action = action

    def expire_tokens(self) -> None:
        self._tokens = dict.fromkeys(self._tokens, time.monotonic())

    @property
    def tokens_given(self) -> int:
        return len(self._tokens)

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/latest/api/token":
            return self._token(asked)
        if asked.method != "GET":
            return Answer(405)
        token = asked.headers.get("x-aws-ec2-metadata-token", "")
        if self._tokens.get(token, 0.0) <= time.monotonic():
            return Answer(401, "Unauthorized")
        match asked.path:
            case "/latest/meta-data/spot/instance-action" if self._action:
                return _document({"action": self._action, "time": _ANOTHER_CLOCK})
            case "/latest/meta-data/events/recommendations/rebalance" if self._rebalance:
                return _document({"noticeTime": _ANOTHER_CLOCK})
        about = self.about.get(asked.path.removeprefix("/latest/meta-data/"))
        if about is not None:
            return Answer(200, about, {"Content-Type": "text/plain"})
        return Answer(404, "Not Found")

    def _token(self, asked: Asked) -> Answer:
        if asked.method != "PUT":
            return Answer(405)
        if "x-forwarded-for" in asked.headers:
            return Answer(403, "Forbidden")
        wanted = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not wanted.isdigit() or not 1 <= int(wanted) <= _LONGEST_TTL_SECONDS:
            return Answer(400, "Bad Request")
        token = secrets.token_urlsafe(40)
        self._tokens[token] = time.monotonic() + min(int(wanted), self.token_seconds)
        return Answer(200, token, {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": wanted})


def _document(content: dict[str, str]) -> Answer:
    return Answer(200, json.dumps(content), {"Content-Type": "application/json"})
