"""Amazon EC2's word on a spot instance, from its metadata service, version 2."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from http import HTTPStatus

import urllib3
from ec2_metadata import EC2Metadata

from pipeline.core.money import Node
from pipeline.core.notice import Notice
from pipeline.spot.promise import Promise

ENDPOINT = "http://169.254.169.254"
_NOTICE_SECONDS = 120.0


class _Metadata(EC2Metadata):
    """The client at another address, and with the one path it has no name for."""

    def __init__(self, endpoint: str) -> None:
        # Repeating is the poller's business, and urllib3's own would hang for 20 s.
        super().__init__(urllib3.PoolManager(retries=False))
        self.service_url = f"{endpoint.rstrip('/')}/latest/"
        # The client made these from its own address before.
        self.metadata_url = f"{self.service_url}meta-data/"
        self.dynamic_url = f"{self.service_url}dynamic/"
        self.userdata_url = f"{self.service_url}user-data/"

    @property
    def rebalance_recommended(self) -> bool:
        url = f"{self.metadata_url}events/recommendations/rebalance"
        return self._get_url(url, allow_404=True).status != HTTPStatus.NOT_FOUND

    def told(self, key: str) -> str:
        """`unknown` where the service has no such key. Raises as every property does."""
        answer = self._get_url(f"{self.metadata_url}{key}", allow_404=True)
        return "unknown" if answer.status == HTTPStatus.NOT_FOUND else answer.data.decode()

    def close(self) -> None:
        self._pool_manager.clear()


class AwsNotices:
    """A rebalance recommendation is a `risk`; an instance action is a `reclaim`, 120 s before.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    says: best effort, look every 5 s, and no time at all before a hibernation.
    """

    name = "aws"
    interval_seconds = 5.0

    def __init__(self, endpoint: str = ENDPOINT, now: Callable[[], float] = time.monotonic) -> None:
        self._metadata = _Metadata(endpoint)
        self._now = now
        self._promise = Promise(_NOTICE_SECONDS)
        self._risk_told = False

    def look(self) -> Notice | None:
        """Raises what the client raises when the service does not answer as it should."""
        try:
            return self._look()
        except Exception:
            # It keeps a token for six hours by the wall clock, whatever the service says of it.
            self._metadata.clear_all()
            raise

    def _look(self) -> Notice | None:
        asked_at = self._now()
        announced = self._metadata.spot_instance_action
        if announced is not None:
            action = announced.action
            left = None if action == "hibernate" else self._promise.left(self._now())
            return Notice("reclaim", f"AWS announced: {action}", left)
        self._promise.none_yet(asked_at)
        if self._risk_told or not self._metadata.rebalance_recommended:
            return None
        self._risk_told = True
        return Notice("risk", "AWS recommends to rebalance")

    def acknowledge(self) -> None:
        """AWS takes no answer."""

    def close(self) -> None:
        self._metadata.close()


_KEYS = {
    "instance_id": "instance-id",
    "instance_type": "instance-type",
    "zone": "placement/availability-zone",
    # `scheduled` and `capacity-block` are neither, and have no price by the hour.
    "lifecycle": "instance-life-cycle",
}


def which_node(endpoint: str = ENDPOINT, wanted: Collection[str] = tuple(_KEYS)) -> Node:
    """As far as it is `wanted`. Raises what the client raises when the service does not answer as
    it should."""
    metadata = _Metadata(endpoint)
    try:
        return Node(**{name: metadata.told(_KEYS[name]) for name in wanted})
    finally:
        metadata.close()


def which_zone_id(endpoint: str = ENDPOINT) -> str:
    """`unknown` where the service does not say. Raises as `which_node` does."""
    metadata = _Metadata(endpoint)
    try:
        return metadata.told("placement/availability-zone-id")
    finally:
        metadata.close()
