"""The HTTP session under s3fs, kept from sending a request twice."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class OneAttemptSession(AIOHTTPSession):  # type: ignore[misc]
    """Below every retry that can be switched off, aiohttp sends a PUT again by itself when the
    connection closes before the answer. A conditional PUT that had won is then told 412: lost.
    """

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        # No public switch exists (aiohttp 3.14); a contract test counts the requests.
        session._retry_connection = False
        return session
