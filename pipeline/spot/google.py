"""Google Compute Engine's word on a spot VM, from its metadata server."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from http import HTTPStatus

import httpx

from pipeline.core.money import ON_DEMAND, SPOT, Node
from pipeline.core.notice import Notice
from pipeline.spot.promise import Promise

ENDPOINT = "http://169.254.169.254"
_PATH = "/computeMetadata/v1/instance/preempted"
_NOTICE_SECONDS = 30.0
_HANG_SECONDS = 60


class GoogleNotices:
    """`instance/preempted` turns TRUE 30 s before the end; a hanging request is told at once.

    https://cloud.google.com/compute/docs/metadata/querying-metadata#waitforchange: with the last
    ETag, a change between two requests is told at once as well; 503 means try again.
    """

    name = "google"
    # Between two hanging requests; it keeps a server that never hangs from being asked nonstop.
    interval_seconds = 0.2

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        answer_seconds: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = httpx.Client(
            base_url=endpoint,
            headers={"Metadata-Flavor": "Google"},
            timeout=answer_seconds,
            # The metadata of this machine is nothing to ask a proxy for.
            trust_env=False,
        )
        self._hang = httpx.Timeout(answer_seconds, read=_HANG_SECONDS + answer_seconds)
        self._now = now
        self._promise = Promise(_NOTICE_SECONDS)
        self._etag: str | None = None

    def look(self) -> Notice | None:
        """Hangs for up to a minute. Raises what httpx raises, and `ValueError` for nonsense."""
        asked_at = self._now()
        answer = self._first() if self._etag is None else self._next(self._etag)
        answer.raise_for_status()
        match answer.text.strip():
            case "TRUE":
                # Given between the last answer and this request, or told the moment it was given.
                return Notice("reclaim", "Google preempts this VM", self._promise.left(asked_at))
            case "FALSE":
                self._etag = answer.headers.get("ETag")
                self._promise.none_yet(self._now())
                return None
            case other:
                raise ValueError(f"{_PATH} is neither TRUE nor FALSE: {other[:80]!r}")

    def _first(self) -> httpx.Response:
        return self._http.get(_PATH)

    def _next(self, etag: str) -> httpx.Response:
        return self._http.get(
            _PATH,
            params={"wait_for_change": "true", "last_etag": etag, "timeout_sec": _HANG_SECONDS},
            timeout=self._hang,
        )

    def acknowledge(self) -> None:
        """Google takes no answer."""

    def close(self) -> None:
        self._http.close()


_KEYS = {
    "instance_id": "id",
    "instance_type": "machine-type",
    "zone": "zone",
    "lifecycle": "scheduling/preemptible",
}


def which_node(
    endpoint: str = ENDPOINT,
    wanted: Collection[str] = tuple(_KEYS),
    answer_seconds: float = 2.0,
) -> Node:
    """As far as it is `wanted`. Raises what httpx raises.

    https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys: spot VMs are
    preemptible as well; type and zone come as `projects/<number>/zones/<zone>`. Bills end their
    `resource.global_name` with the id.
    """
    with httpx.Client(
        base_url=f"{endpoint.rstrip('/')}/computeMetadata/v1/instance/",
        headers={"Metadata-Flavor": "Google"},
        timeout=answer_seconds,
        trust_env=False,
    ) as http:

        def told(key: str) -> str:
            answer = http.get(key)
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return "unknown"
            return answer.raise_for_status().text.strip().rpartition("/")[2]

        found = {name: told(_KEYS[name]) for name in wanted}
    terms = {"TRUE": SPOT, "FALSE": ON_DEMAND}
    if "lifecycle" in found:
        found["lifecycle"] = terms.get(found["lifecycle"], "unknown")
    return Node(**found)
