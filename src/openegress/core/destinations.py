"""Which storage an output goes to: its own, the request's, the server's, or the local disk."""

from collections.abc import Iterable
from typing import Protocol

import msgspec
from livekit.protocol.egress import AliOSSUpload, AzureBlobUpload, GCPUpload, ProxyConfig, S3Upload

from openegress.core import naming
from openegress.core.errors import missing_or_invalid
from openegress.core.plan import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    LocalStorage,
    Proxy,
    S3Storage,
    StoragePlan,
)


class Upload(Protocol):
    """Any request message with an upload in it: the four of v1's outputs, v2's StorageConfig."""

    @property
    def s3(self) -> S3Upload: ...
    @property
    def gcp(self) -> GCPUpload: ...
    @property
    def azure(self) -> AzureBlobUpload: ...
    @property
    def aliOSS(self) -> AliOSSUpload: ...
    def HasField(self, field_name: str) -> bool: ...


def choose(uploads: Iterable[Upload], server: StoragePlan, *, allow_local: bool) -> StoragePlan:
    """The first upload that names a storage, with the server's manners; else the server's own storage.

    Raises EgressError: `output` where that would be the local disk and the server forbids it.
    """
    for upload in uploads:
        backend = of_upload(upload)
        if backend is not None:
            return msgspec.structs.replace(server, backend=backend)
    if isinstance(server.backend, LocalStorage) and not allow_local:
        raise missing_or_invalid("output")
    return server


def of_upload(upload: Upload) -> Backend | None:
    """None: it names no storage. Raises EgressError invalid_argument for one without a bucket."""
    if upload.HasField("s3"):
        return _s3(upload.s3)
    if upload.HasField("gcp"):
        return GCPStorage(
            bucket=_needed("gcp bucket", upload.gcp.bucket),
            credentials=upload.gcp.credentials,
            proxy=_proxy(upload.gcp.proxy) if upload.gcp.HasField("proxy") else None,
        )
    if upload.HasField("azure"):
        return AzureStorage(
            container=_needed("azure container_name", upload.azure.container_name),
            account_name=_needed("azure account_name", upload.azure.account_name),
            account_key=upload.azure.account_key,
        )
    if upload.HasField("aliOSS"):
        oss = upload.aliOSS
        return AliOSSStorage(
            bucket=_needed("aliOSS bucket", oss.bucket),
            access_key=oss.access_key,
            secret=oss.secret,
            region=oss.region,
            endpoint=oss.endpoint,
        )
    return None


def _s3(upload: S3Upload) -> S3Storage:
    return S3Storage(
        bucket=_needed("s3 bucket", upload.bucket),
        access_key=upload.access_key,
        secret=upload.secret,
        session_token=upload.session_token,
        assume_role_arn=upload.assume_role_arn,
        assume_role_external_id=upload.assume_role_external_id,
        region=upload.region,
        endpoint=upload.endpoint,
        force_path_style=upload.force_path_style,
        metadata=dict(upload.metadata),
        tagging=upload.tagging,
        content_disposition=upload.content_disposition,
        proxy=_proxy(upload.proxy) if upload.HasField("proxy") else None,
    )


def _proxy(wire: ProxyConfig) -> Proxy | None:
    if not wire.url:
        return None
    return Proxy(url=wire.url, username=wire.username, password=wire.password)


def _needed(field: str, value: str) -> str:
    if not value:
        raise missing_or_invalid(field)
    return value


def path_in(storage: StoragePlan, path: str, field: str) -> str:
    """`path` as this storage takes it. Raises EgressError where a local one leaves the output root."""
    if isinstance(storage.backend, LocalStorage):
        return naming.local_path(path, storage.backend.root, field)
    return naming.storage_key(path)
