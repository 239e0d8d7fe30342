"""Tells buckets apart, however a request or the configuration spells them. Pure."""

import hashlib

from openegress.core.storages import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    LocalStorage,
    S3Storage,
)

_CLOUDS = (".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com")
"""Endings of hosts where a bucket's name belongs to one bucket, whatever the endpoint."""


def bucket_of(backend: Backend) -> str:
    """A text that is the same for each way to name one bucket or container; "local" for a local disk."""
    match backend:
        case S3Storage() | AliOSSStorage():
            kind = "s3" if isinstance(backend, S3Storage) else "alioss"
            return f"{kind}|{_service(backend.endpoint, backend.bucket)}/{backend.bucket}"
        case GCPStorage():
            return f"gcp|{backend.bucket}"
        case AzureStorage():
            return f"azure|{_service(backend.endpoint) or backend.account_name}/{backend.container}"
        case LocalStorage():
            return "local"


def folder_of(backend: Backend) -> str:
    """The name of a folder for what belongs to one bucket: the bucket's name, for people, and a hash of what
    tells it from others."""
    identity = bucket_of(backend)
    name = identity.rpartition("/")[2].rpartition("|")[2].replace(":", "_")[:63]
    return f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _service(endpoint: str, bucket: str = "") -> str:
    """A text that is the same for each spelling of an endpoint; "" for a cloud's own."""
    scheme, found, rest = endpoint.lower().rpartition("://")
    host = rest.rstrip("/")
    if not found or scheme == "https":
        host = host.removesuffix(":443")
    elif scheme == "http":
        host = host.removesuffix(":80")
    return "" if host.endswith(_CLOUDS) else host.removeprefix(f"{bucket.lower()}.")
