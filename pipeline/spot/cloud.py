"""Which cloud's notices to listen to, and for how long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, Protocol

from pipeline.core.errors import Interrupted, JobInvalid
from pipeline.core.notice import Notice
from pipeline.core.ports import InterruptionNotice
from pipeline.spot.housemates import Housemates
from pipeline.spot.polling import PolledNotice
from pipeline.spot.signals import NoNotice, in_a_pod

Cloud = Literal["aws", "google", "azure"]

CHOICE = "SPOTMILL_NOTICES"
ENDPOINT = "SPOTMILL_NOTICE_ENDPOINT"
_CLOUDS: tuple[Cloud, ...] = ("aws", "google", "azure")
DMI = Path("/sys/class/dmi/id")
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"


class CloudNotices(Protocol):
    """One cloud's way of giving notice. `look` and `close` are called from one thread."""

    @property
    def name(self) -> str: ...

    @property
    def interval_seconds(self) -> float:
        """The pause between two looks."""
        ...

    def look(self) -> Notice | None:
        """What is announced now. May block, and may raise anything."""
        ...

    def acknowledge(self) -> None:
        """This worker needs the machine no longer. Raises nothing; called at most once."""
        ...

    def close(self) -> None: ...


def cloud_at_hand(dmi: Path = DMI) -> Cloud | None:
    """The cloud whose firmware this machine has; None is another one, or none. Asks no network."""
    if _says(dmi / "sys_vendor", "Amazon EC2") or _says(dmi / "bios_version", "amazon"):
        # The second is how EC2's older, Xen machines tell: P2, P3 and G3 among them.
        return "aws"
    if _says(dmi / "product_name", "Google Compute Engine"):
        return "google"
    if _says(dmi / "chassis_asset_tag", _AZURE_TAG):
        # Any machine on Hyper-V has Microsoft as its vendor; only Azure's have this tag.
        return "azure"
    return None


def _says(file: Path, what: str) -> bool:
    try:
        return what in file.read_text(errors="replace")
    except OSError:
        return False


def cloud_chosen(environment: Mapping[str, str], dmi: Path = DMI) -> Cloud | None:
    """What `SPOTMILL_NOTICES` asks for, by default `auto`. Raises `JobInvalid`."""
    choice = environment.get(CHOICE) or "auto"
    if choice == "auto":
        return cloud_at_hand(dmi)
    if choice == "none":
        return None
    for cloud in _CLOUDS:
        if choice == cloud:
            return cloud
    raise JobInvalid(
        f"{choice!r} gives no notices",
        where=CHOICE,
        hint=f"set it to one of auto, none, {', '.join(_CLOUDS)}, or unset it",
    )


@contextmanager
def cloud_notice(
    environment: Mapping[str, str] = os.environ, dmi: Path = DMI
) -> Iterator[InterruptionNotice]:
    """Listens while the context lasts, which is as long as a worker lives. Raises `JobInvalid`.

    A worker that ends well, or in `Interrupted` after its drain, has no more need of its machine,
    and the cloud is told so. One that fails says nothing: what it had may still be on its way.
    """
    cloud = cloud_chosen(environment, dmi)
    if cloud is None:
        yield NoNotice()
        return
    with ExitStack() as stack:
        notices = _notices_of(cloud, environment, stack)
        polled = PolledNotice(notices.name, notices.look, notices.interval_seconds, notices.close)
        polled.start()
        stack.callback(polled.close)
        try:
            yield polled
        except Interrupted:
            notices.acknowledge()
            raise
        notices.acknowledge()


def _notices_of(cloud: Cloud, environment: Mapping[str, str], stack: ExitStack) -> CloudNotices:
    # Imported when they are needed: other commands of this machine can do without an HTTP client.
    endpoint = endpoint_chosen(environment)
    if cloud == "aws":
        from pipeline.spot import aws

        return aws.AwsNotices(endpoint or aws.ENDPOINT)
    if cloud == "google":
        from pipeline.spot import google

        return google.GoogleNotices(endpoint or google.ENDPOINT)
    from pipeline.spot import azure

    return azure.AzureNotices(endpoint or azure.ENDPOINT, _alone(environment, stack))


def endpoint_chosen(environment: Mapping[str, str]) -> str | None:
    """The base URL that `SPOTMILL_NOTICE_ENDPOINT` sets; None is the cloud's own. Raises
    `JobInvalid`."""
    endpoint = environment.get(ENDPOINT)
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise JobInvalid(
            f"{endpoint!r} is no base URL",
            where=ENDPOINT,
            hint="write it as http://host:port, or unset it for the cloud's own",
        )
    return endpoint or None


def _alone(environment: Mapping[str, str], stack: ExitStack) -> Callable[[], bool]:
    """Whether this worker is the last one on its machine, as far as it can see."""
    if in_a_pod(environment):
        # A node has other pods, whose drains nobody here knows of.
        return lambda: False
    try:
        housemates = Housemates()
    except OSError:
        return lambda: False
    stack.callback(housemates.close)
    return housemates.all_gone
