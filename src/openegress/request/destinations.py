"""Chooses the storage of an output: its own, the request's, the server's, or the local disk."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec
from livekit.protocol.egress import AliOSSUpload, AzureBlobUpload, GCPUpload, ProxyConfig, S3Upload

from openegress.core.errors import Code, EgressError, Fault, missing_or_invalid
from openegress.core.http_url import is_http
from openegress.core.shown_url import redact_endpoint
from openegress.core.storages import (
    AliOSSStorage,
    AzureStorage,
    Backend,
    GCPStorage,
    LocalStorage,
    Proxy,
    S3Storage,
    StoragePlan,
)
from openegress.core.text import shown
from openegress.request import naming, object_headers
from openegress.request.bucket import bucket_of, folder_of
from openegress.request.storage_names import check_names, is_aws

Named = S3Storage | GCPStorage | AzureStorage | AliOSSStorage


class UploadRequest(Protocol):
    """Any request message with an upload: the four outputs of v1, and v2's StorageConfig."""

    @property
    def s3(self) -> S3Upload: ...
    @property
    def gcp(self) -> GCPUpload: ...
    @property
    def azure(self) -> AzureBlobUpload: ...
    @property
    def aliOSS(self) -> AliOSSUpload: ...
    def HasField(self, field_name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class AssumeRole:
    """The server's role for requests that upload to S3. Empty fields are not configured."""

    access_key: str = ""
    secret: str = ""
    """The key that assumes a request's role if the request has none of its own."""
    arn: str = ""
    """The role for requests that name none."""
    external_id: str = ""
    """The external id for `arn`."""


def choose(
    uploads: Iterable[UploadRequest],
    server: StoragePlan,
    *,
    allow_local: bool,
    assume_role: AssumeRole = AssumeRole(),
    deny_networks: tuple[str, ...] = (),
) -> StoragePlan:
    """The first upload that names a storage, with the server's settings; otherwise the server's own storage.
    Raises EgressError, which names `output`, if that would be the local disk and the server forbids it."""
    for upload in uploads:
        backend = of_upload(upload)
        if isinstance(backend, S3Storage):
            backend = _as_patient(backend, server.backend)
            if _may_know_us(backend, server.backend):
                backend = _in_role(backend, assume_role)
            elif not backend.access_key:
                where = shown(redact_endpoint(backend.endpoint), 80)
                raise EgressError(
                    Code.PERMISSION_DENIED,
                    f'S3 upload to "{where}" without access_key: who this server is, is'
                    " told to AWS and its own storage only; set access_key and secret",
                    fault=Fault.CALLER,
                )
        if backend is not None:
            check_names(backend)
            backend = msgspec.structs.replace(backend, deny_networks=deny_networks)
            return _backed_up(msgspec.structs.replace(server, backend=backend), server.backend)
    if isinstance(server.backend, LocalStorage) and not allow_local:
        raise missing_or_invalid("output")
    return server


def _backed_up(plan: StoragePlan, server: Backend) -> StoragePlan:
    """`plan` with a folder of its own in the server's backup, unless its bucket is the server's: equal paths
    of two buckets would be one path there, and the second recording would replace the first."""
    if plan.backup is None or bucket_of(plan.backend) == bucket_of(server):
        return plan
    prefix = "/".join(part for part in (plan.backup_prefix.rstrip("/"), folder_of(plan.backend)) if part)
    return msgspec.structs.replace(plan, backup_prefix=prefix)


def of_upload(upload: UploadRequest) -> Named | None:
    """The storage that an upload names; None: it names none. Raises EgressError invalid_argument if it has no
    bucket."""
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
        _check_pair("aliOSS", oss.access_key, oss.secret)
        return AliOSSStorage(
            bucket=_needed("aliOSS bucket", oss.bucket),
            access_key=oss.access_key,
            secret=oss.secret,
            region=oss.region,
            endpoint=oss.endpoint,
        )
    return None


def _s3(upload: S3Upload) -> S3Storage:
    object_headers.metadata(upload.metadata)
    object_headers.tags(upload.tagging)
    object_headers.disposition(upload.content_disposition)
    if upload.assume_role_external_id and not upload.assume_role_arn:
        raise missing_or_invalid("s3 assume_role_arn (there is an assume_role_external_id, and no role)")
    _check_pair("s3", upload.access_key, upload.secret)
    if upload.session_token and not upload.access_key:
        raise missing_or_invalid("s3 access_key (there is a session_token, and no key that it belongs to)")
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


def _as_patient(backend: S3Storage, server: Backend) -> S3Storage:
    """`backend` with the server's settings for retries of S3 calls and for checksums, which apply to any
    bucket."""
    if not isinstance(server, S3Storage):
        return backend
    return msgspec.structs.replace(
        backend,
        checksum=server.checksum,
        max_retries=server.max_retries,
        min_retry_delay_s=server.min_retry_delay_s,
        max_retry_delay_s=server.max_retry_delay_s,
    )


def _may_know_us(backend: S3Storage, server: Backend) -> bool:
    """Whether the server's identity (its role, its keys, its external id) may be used at an endpoint that a
    request names."""
    own = server.endpoint if isinstance(server, S3Storage) else ""
    return is_aws(backend.endpoint) or backend.endpoint == own


def _in_role(backend: S3Storage, role: AssumeRole) -> S3Storage:
    """`backend` with the role to assume. As in upstream, an external id belongs to the role it was set for,
    so it does not mix with a request's. The ambient identity assumes only the server's role: otherwise
    callers could make it assume any. Raises EgressError (permission_denied)."""
    if backend.assume_role_arn and not backend.access_key and not role.access_key:
        raise EgressError(
            Code.PERMISSION_DENIED,
            "S3 upload using AssumeRole is disabled for this account: the request has an assume_role_arn and"
            " no access_key, and the server no s3_assume_role_key",
            fault=Fault.CALLER,
        )
    if not backend.assume_role_arn and role.arn:
        backend = msgspec.structs.replace(
            backend, assume_role_arn=role.arn, assume_role_external_id=role.external_id
        )
    if backend.assume_role_arn and not backend.access_key and role.access_key:
        backend = msgspec.structs.replace(
            backend, access_key=role.access_key, secret=role.secret, session_token=""
        )
    return backend


def _proxy(wire: ProxyConfig) -> Proxy | None:
    if not wire.url:
        if wire.username or wire.password:
            raise missing_or_invalid("proxy url (there is a username or a password, and no proxy)")
        return None
    if not is_http(wire.url if "://" in wire.url else f"http://{wire.url}"):
        where = shown(redact_endpoint(wire.url), 80)
        raise missing_or_invalid(f"proxy url ({where!r} is not an HTTP proxy; write http://host:port)")
    return Proxy(url=wire.url, username=wire.username, password=wire.password)


def _check_pair(kind: str, access_key: str, secret: str) -> None:
    """Raises EgressError if half of a pair is missing: without this check, uploads would be made as somebody
    else."""
    if bool(access_key) != bool(secret):
        missing, there = ("secret", "access_key") if access_key else ("access_key", "secret")
        raise missing_or_invalid(f"{kind} {missing} (there is {there} alone)")


def _needed(field: str, value: str) -> str:
    if not value:
        raise missing_or_invalid(field)
    return value


def path_in(storage: StoragePlan, path: str, field: str) -> str:
    """`path` in the form that this storage takes. Raises EgressError if a local one leaves its
    root."""
    if isinstance(storage.backend, LocalStorage):
        return naming.local_path(path, storage.backend, field)
    return naming.storage_key(path)
