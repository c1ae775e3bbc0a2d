"""Whose credentials EC2 is asked with: those of the environment, or the machine's own role."""

from __future__ import annotations

from urllib.parse import urlsplit

from botocore.credentials import CredentialResolver
from botocore.session import Session

_ROLES = frozenset({"assume-role-with-web-identity", "container-role", "iam-role"})
"""Given by AWS to a machine, a container or a pod: no other store's, whatever else there is."""
_AMAZONS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")


def usual_session() -> Session:
    """AWS's usual credentials, in AWS's usual order."""
    session = Session()
    # A node without credentials is not to wait long for learning that it has none.
    session.set_config_variable("metadata_service_timeout", 1)
    session.set_config_variable("metadata_service_num_attempts", 1)
    # A web identity is shown to AWS, and never to wherever objects are stored.
    session.set_config_variable("ignore_configured_endpoint_urls", True)
    return session


def role_session() -> Session:
    """The role that AWS gave this machine, container or pod, and no key from anywhere else."""
    session = usual_session()
    usual = session.get_component("credential_provider")
    own = [provider for provider in usual.providers if provider.METHOD in _ROLES]
    session.register_component("credential_provider", CredentialResolver(own))
    return session


def is_amazons(endpoint_url: str | None) -> bool:
    """Whether keys for a store at this address are AWS's; None is S3 itself."""
    host = "" if endpoint_url is None else urlsplit(endpoint_url).hostname or ""
    return endpoint_url is None or host.endswith(_AMAZONS)
