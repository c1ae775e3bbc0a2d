"""Which machine this is, as far as its environment says."""

from __future__ import annotations

import os
import socket

from pipeline.core.money import Node


def node_from_environment() -> Node:
    """`SPOTMILL_INSTANCE_ID`, `_TYPE`, `_ZONE` and `_LIFECYCLE` (spot or on-demand), else unknown.

    Without an instance id the host's name stands in, so that two machines can be told apart.
    """
    known = os.environ.get
    return Node(
        instance_id=known("SPOTMILL_INSTANCE_ID", socket.gethostname()),
        instance_type=known("SPOTMILL_INSTANCE_TYPE", "unknown"),
        zone=known("SPOTMILL_INSTANCE_ZONE", "unknown"),
        lifecycle=known("SPOTMILL_INSTANCE_LIFECYCLE", "unknown"),
    )
