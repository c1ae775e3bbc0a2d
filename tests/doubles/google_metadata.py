"""Compute Engine's metadata server, as far as a spot VM asks it.

Written after https://cloud.google.com/compute/docs/metadata/querying-metadata,
https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys and
https://cloud.google.com/compute/docs/instances/create-use-preemptible.
"""

from __future__ import annotations

import threading
import time

from tests.doubles.server import Answer, Asked, MetadataDouble

_INSTANCE = "/computeMetadata/v1/instance/"
_PREEMPTED = f"{_INSTANCE}preempted"
_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


class GoogleMetadata(MetadataDouble):
    """`longest_wait_seconds` bounds every hanging request, for tests in a hurry."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.longest_wait_seconds = 3600.0
        self.hanging = 0
        self.about = {
            "id": "4521187462195302841",
            "machine-type": "projects/8837465512/machineTypes/a2-highgpu-1g",
            "zone": "projects/8837465512/zones/us-central1-a",
            "scheduling/preemptible": "TRUE",
        }
        """What it says of the instance, by path; what is taken out is not found."""
        self._preempted = False
        self._changed = threading.Condition()

    def preempt(self) -> None:
        with self._changed:
            self._preempted = True
            self._changed.notify_all()

    @property
    def _etag(self) -> str:
        return "51c9d2f5ab8ddc7e" if self._preempted else "411261ca6c9e4ff4"

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in asked.headers:
            return Answer(403, "<title>Error 403 (Forbidden)!!1</title>", _FLAVOR)
        about = self.about.get(asked.path.removeprefix(_INSTANCE))
        if about is not None:
            return Answer(200, about, _FLAVOR)
        if asked.path != _PREEMPTED:
            return Answer(404, "<title>Error 404 (Not Found)!!1</title>", _FLAVOR)
        if asked.method != "GET":
            return Answer(405, "", _FLAVOR)
        if asked.query.get("wait_for_change") == "true":
            self._wait(asked)
        if self.closing.is_set():
            return Answer(503, "", _FLAVOR)
        with self._changed:
            text = "TRUE" if self._preempted else "FALSE"
            return Answer(200, text, _FLAVOR | {"ETag": self._etag})

    def _wait(self, asked: Asked) -> None:
        """Until the content is another than the one with `last_etag`, or time is up."""
        seconds = float(asked.query.get("timeout_sec", "inf"))
        until = time.monotonic() + min(seconds, self.longest_wait_seconds)
        with self._changed:
            seen = asked.query.get("last_etag", self._etag)
            self.hanging += 1
            while self._etag == seen and time.monotonic() < until and not self.closing.is_set():
                self._changed.wait(0.05)
            self.hanging -= 1
