"""Azure's metadata service: the VM's name, and its scheduled events.

Written after https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events and
https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from typing import Any

from tests.doubles.server import Answer, Asked, MetadataDouble

_EVENT_VERSIONS = {"2017-11-01", "2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"}
_INSTANCE_VERSIONS = {"2020-09-01", "2021-01-01", "2021-02-01"}
# No clock of ours: nobody may take the difference.
_ANOTHER_CLOCK = "Mon, 19 Sep 2016 18:29:47 GMT"


class AzureMetadata(MetadataDouble):
    """The first look at the events takes `first_seconds`, as it switches them on.

    An acknowledged event is `Started`; its id is then in `acknowledged`.
    """

    def __init__(self, own_name: str = "worker_3", port: int = 0) -> None:
        super().__init__(port)
        self.own_name = own_name
        self.first_seconds = 0.0
        self.about = {
            "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
            "resourceId": "/subscriptions/8d10da13-8125-4ba9-a717-bf7490507b3d/resourceGroups/"
            "Night_(Batch).1/providers/Microsoft.Compute/virtualMachines/worker_3",
            "vmSize": "Standard_NC24ads_A100_v4",
            "location": "eastus",
            "zone": "1",
            "priority": "Spot",
        }
        self.acknowledged: list[str] = []
        self._switched_on = False
        self._incarnation = 1
        self._events: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def schedule(
        self,
        kind: str,
        resources: Sequence[str] | None = None,
        status: str = "Scheduled",
    ) -> str:
        event = {
            "EventId": str(uuid.uuid4()).upper(),
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": [self.own_name] if resources is None else list(resources),
            "EventStatus": status,
            "NotBefore": "" if status == "Started" else _ANOTHER_CLOCK,
            "Description": "made up",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }
        with self._lock:
            self._events.append(event)
            self._incarnation += 1
        return str(event["EventId"])

    def start(self, event_id: str) -> None:
        """As if its time were up, or another VM had approved it."""
        with self._lock:
            for event in self._events:
                if event["EventId"] == event_id:
                    event |= {"EventStatus": "Started", "NotBefore": ""}
            self._incarnation += 1

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("metadata") != "true" or "x-forwarded-for" in asked.headers:
            return _error("Bad request. Required metadata header not specified")
        match asked.method, asked.path:
            case "GET", "/metadata/instance/compute":
                return self._compute(asked)
            case (("GET" | "POST"), "/metadata/scheduledevents"):
                if asked.query.get("api-version") not in _EVENT_VERSIONS:
                    return _error("Bad request. api-version is invalid or was not specified")
                return self._document() if asked.method == "GET" else self._approve(asked.body)
        return Answer(404, "Not found")

    def _compute(self, asked: Asked) -> Answer:
        if asked.query.get("api-version") not in _INSTANCE_VERSIONS:
            return _error("Bad request. api-version is invalid or was not specified")
        compute = {"name": self.own_name} | self.about
        return Answer(200, json.dumps(compute), {"Content-Type": "application/json"})

    def _document(self) -> Answer:
        if not self._switched_on:
            self.closing.wait(self.first_seconds)
            self._switched_on = True
        with self._lock:
            document = {"DocumentIncarnation": self._incarnation, "Events": self._events}
            return Answer(200, json.dumps(document), {"Content-Type": "application/json"})

    def _approve(self, body: bytes) -> Answer:
        try:
            wanted = [request["EventId"] for request in json.loads(body)["StartRequests"]]
        except (ValueError, KeyError, TypeError):
            return _error("Bad request. Malformed payload")
        with self._lock:
            known = {event["EventId"] for event in self._events}
        if not set(wanted) <= known:
            return _error("Bad request. No such event")
        for event_id in wanted:
            self.start(event_id)
            self.acknowledged.append(event_id)
        return Answer(200)


def _error(text: str) -> Answer:
    return Answer(400, json.dumps({"error": text}), {"Content-Type": "application/json"})
