"""Opens the Storage for a backend of the plan. Only the client library that it needs is imported."""

import os
from typing import TYPE_CHECKING

import msgspec

from openegress.core.storages import AliOSSStorage, AzureStorage, Backend, GCPStorage, LocalStorage, S3Storage
from openegress.storage import Storage
from openegress.storage.local import LocalFolder

if TYPE_CHECKING:
    from openegress.storage.objects import Bucket
    from openegress.storage.s3_bucket import S3Bucket


async def connect(backend: Backend) -> Storage:
    """Makes the client and sends nothing; Storage.check tests whether the storage accepts files.

    Raises EgressError if the backend's fields contradict each other."""
    if isinstance(backend, LocalStorage):
        return LocalFolder(backend)
    if backend.deny_networks is None:
        return _bucket(backend)
    from openegress.storage import identity
    from openegress.storage.gateway import Gateway

    gateway = await Gateway.open(backend.deny_networks, backend.proxy, identity.hosts(backend, os.environ))
    try:
        bucket = _bucket(msgspec.structs.replace(backend, proxy=gateway.proxy))
    except BaseException:
        await gateway.close()
        raise
    bucket.gateway = gateway
    return bucket


def _bucket(backend: S3Storage | AliOSSStorage | GCPStorage | AzureStorage) -> "Bucket | S3Bucket":
    match backend:
        case S3Storage():
            from openegress.storage import s3

            return s3.connect(backend)
        case AliOSSStorage():
            from openegress.storage import alioss

            return alioss.connect(backend)
        case GCPStorage():
            from openegress.storage import gcp

            return gcp.connect(backend)
        case AzureStorage():
            from openegress.storage import azure

            return azure.connect(backend)
