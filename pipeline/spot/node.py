"""Which machine this is, as far as its environment and its cloud say."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.core.errors import JobInvalid
from pipeline.core.money import HOST, ON_DEMAND, SPOT, Node
from pipeline.spot.cloud import DMI, Cloud, cloud_chosen, endpoint_chosen

log = logging.getLogger("spotmill.spot")

_PATIENCE_SECONDS = 5.0
"""A service that is there answers in milliseconds; one that isn't must not hold up a worker."""
_PAUSE_SECONDS = 0.5
_VARIABLES = {
    "instance_id": "SPOTMILL_INSTANCE_ID",
    "instance_type": "SPOTMILL_INSTANCE_TYPE",
    "zone": "SPOTMILL_INSTANCE_ZONE",
    "lifecycle": "SPOTMILL_INSTANCE_LIFECYCLE",
}
_TERMS = {
    "spot": SPOT,
    # What Google called its spot VMs once, and its metadata service still does.
    "preemptible": SPOT,
    "on-demand": ON_DEMAND,
    "on_demand": ON_DEMAND,
    "unknown": "unknown",
}
_NAME = re.compile(r"[\w.-]{1,200}")
_AZURE_RESOURCE = re.compile(r"/subscriptions(?:/[\w.()-]{1,90}){7,9}")
"""That of a VM, or of one in a scale set: names of resource groups may have brackets."""


def node_at_hand(
    environment: Mapping[str, str] = os.environ,
    dmi: Path = DMI,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> Node:
    """`SPOTMILL_INSTANCE_ID`, `_TYPE`, `_ZONE` and `_LIFECYCLE` (spot or on-demand), and what they
    leave open from the metadata service of the cloud that notices come from; else unknown. So is
    what that service has no word for: GKE's, with Workload Identity, tells neither type nor terms.

    Without an instance id the host's name stands in, so that two machines can be told apart; it is
    marked, since no bill knows it. Waits for `patience_seconds` at most, where there is a cloud.
    Raises `JobInvalid` for settings that make no sense.
    """
    told = {name: environment.get(variable) or "unknown" for name, variable in _VARIABLES.items()}
    told["lifecycle"] = _terms(told["lifecycle"])
    cloud = cloud_chosen(environment, dmi)
    wanted = [name for name, text in told.items() if text == "unknown"]
    if cloud is not None and wanted:
        found = asdict(_asked(cloud, endpoint_chosen(environment), wanted, patience_seconds))
        told = {name: found[name] if text == "unknown" else text for name, text in told.items()}
    if told["instance_id"] == "unknown":
        told["instance_id"] = f"{HOST}{socket.gethostname()}"
    return Node(**told)


def zone_id_at_hand(environment: Mapping[str, str] = os.environ, dmi: Path = DMI) -> str | None:
    """EC2's id of the zone this machine is in, which is the same in every account, as names are
    not. None on other machines, where the zone was told, and where the service does not say.

    May take a second or two; raises nothing for want of an answer.
    """
    if environment.get(_VARIABLES["zone"]) or cloud_chosen(environment, dmi) != "aws":
        return None
    from pipeline.spot import aws

    try:
        found = aws.which_zone_id(endpoint_chosen(environment) or aws.ENDPOINT)
    except Exception as problem:
        log.info("the id of this machine's zone is not known: %s", str(problem) or repr(problem))
        return None
    return found if found != "unknown" and _NAME.fullmatch(found) else None


def _terms(text: str) -> str:
    terms = _TERMS.get(text.strip().casefold())
    if terms is None:
        raise JobInvalid(
            f"{text!r} are no terms on which a machine is had",
            where=_VARIABLES["lifecycle"],
            hint="set it to spot or on-demand, or unset it where neither is known",
        )
    return terms


def _asked(
    cloud: Cloud, endpoint: str | None, wanted: Collection[str], patience_seconds: float
) -> Node:
    answers: list[Node] = []
    problems: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not (answers or over.is_set()):
            try:
                answers.append(_checked(_node_of(cloud, endpoint, wanted)))
            except Exception as problem:
                problems.append(problem)
                over.wait(_PAUSE_SECONDS)

    # A daemon: what hangs is left behind, whatever time-outs its client has.
    asking = threading.Thread(target=ask, name=f"node-{cloud}", daemon=True)
    asking.start()
    asking.join(patience_seconds)
    over.set()
    if answers:
        node = answers[0]
        untold = [_VARIABLES[name] for name in wanted if getattr(node, name) == "unknown"]
        if untold:
            log.warning(
                "the metadata service of %s does not tell all of this node: set %s",
                *(cloud, " and ".join(untold)),
            )
        return node
    why = (str(problems[-1]) or repr(problems[-1])) if problems else "no answer in time"
    log.warning("the metadata service of %s does not say which node this is: %s", cloud, why)
    return Node()


def _checked(node: Node) -> Node:
    """Names come as plain text, for which the error page of any proxy would do."""
    for name, text in asdict(node).items():
        is_resource = name == "instance_id" and _AZURE_RESOURCE.fullmatch(text)
        if not is_resource and not _NAME.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is nothing that a node is called")
    return node


def _node_of(cloud: Cloud, endpoint: str | None, wanted: Collection[str]) -> Node:
    if cloud == "aws":
        from pipeline.spot import aws

        return aws.which_node(endpoint or aws.ENDPOINT, wanted)
    if cloud == "google":
        from pipeline.spot import google

        return google.which_node(endpoint or google.ENDPOINT, wanted)
    from pipeline.spot import azure

    return azure.which_node(endpoint or azure.ENDPOINT)
