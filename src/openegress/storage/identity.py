"""Lists metadata servers and agents, which give this server its identity in a cloud. They lie in networks
that requests must not reach, but the storage's client has to ask them. Pure."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from openegress.core.storages import AliOSSStorage, AzureStorage, GCPStorage, S3Storage

_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Addresses of EC2 and Azure, ECS, EKS Pod Identity."""
_GOOGLE = frozenset({"metadata.google.internal", "metadata", "169.254.169.254"})
_URLS = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "IDENTITY_ENDPOINT", "MSI_ENDPOINT", "GCE_METADATA_ROOT")
"""Environment variables that name further hosts."""


def hosts(
    backend: S3Storage | GCPStorage | AzureStorage | AliOSSStorage, environ: Mapping[str, str]
) -> frozenset[str]:
    """The hosts that the client of `backend` may ask; none if the backend has credentials of its own.
    request.destinations has already refused the server's identity for buckets of other people's."""
    match backend:
        case S3Storage(access_key="") | AzureStorage(account_key="", sas_token=""):
            known = _HOSTS
        case GCPStorage(credentials=""):
            known = _GOOGLE
        case _:
            return frozenset()
    named = (environ.get(name, "") for name in (*_URLS, "GCE_METADATA_HOST", "GCE_METADATA_IP"))
    found = (urlsplit(each if "://" in each else f"http://{each}").hostname for each in named if each)
    return known | {host for host in found if host}
