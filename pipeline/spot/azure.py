"""Azure's word on a spot VM, from the scheduled events of its metadata service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from pipeline.core.money import ON_DEMAND, SPOT, Node
from pipeline.core.notice import Notice
from pipeline.spot.promise import Promise

log = logging.getLogger("spotmill.spot")

ENDPOINT = "http://169.254.169.254"
_EVENTS = "/metadata/scheduledevents"
_EVENTS_VERSION = {"api-version": "2020-07-01"}
_COMPUTE = "/metadata/instance/compute"
_COMPUTE_VERSION = {"api-version": "2021-02-01"}
_HEADERS = {"Metadata": "true"}
_LIFECYCLES = {"spot": SPOT, "low": SPOT, "regular": ON_DEMAND, "": ON_DEMAND}

# The least notice of each; Terminate is somebody deleting the VM, after 5 to 15 minutes.
_NOTICE_SECONDS = {"Preempt": 30.0, "Terminate": 300.0}
# The first request switches the events on, which takes up to two minutes.
_FIRST_ANSWER_SECONDS = 130.0


class AzureNotices:
    """`Preempt` is a `reclaim`, 30 s before; so is `Terminate`, 5 minutes before. Once such an
    event has started, it is a `stop`.

    https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events: look every second;
    events of a scale set or availability set name the VMs they concern. Freezes, reboots and
    redeployments are no notices: they may be days ahead.
    `alone` says whether nobody else on this VM still needs it.
    """

    name = "azure"
    interval_seconds = 1.0

    def __init__(
        self,
        endpoint: str = ENDPOINT,
        alone: Callable[[], bool] = lambda: True,
        answer_seconds: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        # The metadata of this machine is nothing to ask a proxy for.
        self._http = httpx.Client(base_url=endpoint, headers=_HEADERS, trust_env=False)
        self._alone = alone
        self._now = now
        self._promises = {kind: Promise(seconds) for kind, seconds in _NOTICE_SECONDS.items()}
        self._own_name: str | None = None
        self._answer_seconds = answer_seconds
        self._switched_on = False
        self._ours: Mapping[str, Any] | None = None

    def look(self) -> Notice | None:
        """Raises what httpx raises, or what comes of reading an answer of another form."""
        own_name = self._own_name or self._ask_name()
        asked_at = self._now()
        timeout = self._answer_seconds if self._switched_on else _FIRST_ANSWER_SECONDS
        answer = self._http.get(_EVENTS, params=_EVENTS_VERSION, timeout=timeout)
        answer.raise_for_status()
        events = list(_events_of(answer.json(), own_name))
        self._switched_on = True
        for kind, promise in self._promises.items():
            found = next((event for event in events if event.get("EventType") == kind), None)
            if found is not None:
                self._ours = found
                if found.get("EventStatus") == "Started":
                    # Graver than the announcement: somebody approved it, or the host failed.
                    return Notice("stop", f"Azure has begun: {kind}")
                return Notice("reclaim", f"Azure announced: {kind}", promise.left(self._now()))
            promise.none_yet(asked_at)
        return None

    def _ask_name(self) -> str:
        answer = self._http.get(_COMPUTE, params=_COMPUTE_VERSION, timeout=self._answer_seconds)
        answer.raise_for_status()
        # Not the plain text of compute/name: any proxy's error page would do for a name.
        name = str(answer.json()["name"])
        self._own_name = name
        return name

    def acknowledge(self) -> None:
        """Let Azure take the VM before its time is up. Nothing raises; tried once."""
        if self._ours is None or "EventId" not in self._ours:
            return
        if len(self._ours["Resources"]) > 1 or not self._alone():
            log.info("Azure's event is not acknowledged: others may need the time it leaves")
            return
        try:
            httpx.post(
                f"{self._endpoint.rstrip('/')}{_EVENTS}",
                params=_EVENTS_VERSION,
                headers=_HEADERS,
                json={"StartRequests": [{"EventId": self._ours["EventId"]}]},
                timeout=self._answer_seconds,
                trust_env=False,
            ).raise_for_status()
        except httpx.HTTPError as problem:
            log.info("Azure's event was not acknowledged, it runs its time: %s", problem)

    def close(self) -> None:
        self._http.close()


def _events_of(document: Mapping[str, Any], own_name: str) -> Iterator[Mapping[str, Any]]:
    for event in document["Events"]:
        # Azure's names do not differ by case.
        if own_name.casefold() in (name.casefold() for name in event.get("Resources", ())):
            yield event


def which_node(endpoint: str = ENDPOINT, answer_seconds: float = 2.0) -> Node:
    """Raises what httpx raises, or what comes of reading an answer of another form.

    https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service: `priority` is
    `Spot` (or `Low`, in old scale sets), `Regular`, or empty for a regular VM without one. Zones
    are numbers within a location, and some VMs have none. Bills know a VM by its resource id, which
    they write in small letters, since Azure's names do not differ by case.
    """
    answer = httpx.get(
        f"{endpoint.rstrip('/')}{_COMPUTE}",
        params=_COMPUTE_VERSION,
        headers=_HEADERS,
        timeout=answer_seconds,
        trust_env=False,
    )
    compute = answer.raise_for_status().json()
    place = (compute.get("location"), compute.get("zone"))
    return Node(
        instance_id=(compute.get("resourceId") or "unknown").lower(),
        instance_type=compute.get("vmSize") or "unknown",
        zone="-".join(part for part in place if part) if place[0] else "unknown",
        lifecycle=_LIFECYCLES.get(str(compute.get("priority")).casefold(), "unknown"),
    )
